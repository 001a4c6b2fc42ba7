from argparse import RawDescriptionHelpFormatter
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

from config.messages import broken, compile_mo, found, missing, read_po, write_po

EXAMPLES = """examples:
  manage.py messages            write new messages into each .po file, and compile it
  manage.py messages --check    exit 1 when one is missing, or a .mo file is not that of its .po

Needs no gettext tools. Exit status: 0 all is translated, 1 something is missing, 2 wrong usage."""


class Command(BaseCommand):
    help = "Keep the translations in locale/ in step with the code."
    requires_system_checks = ()

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        kwargs.update(epilog=EXAMPLES, formatter_class=RawDescriptionHelpFormatter)
        return super().create_parser(prog_name, subcommand, **kwargs)

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--check", action="store_true", help="change nothing")

    def handle(self, *_: Any, check: bool, **_options: Any) -> None:
        problems, where = [], found()
        for path in sorted((settings.BASE_DIR / "locale").glob("*/LC_MESSAGES/django.po")):
            known = read_po(path.read_text())
            # What the code does not say any more may be said again by another branch.
            kept = {**known, **{message: known.get(message, "") for message in where}}
            compiled = path.with_suffix(".mo")
            if check and (not compiled.exists() or compiled.read_bytes() != compile_mo(kept)):
                problems.append(f"{compiled}: not that of its .po; run manage.py messages")
            elif not check:
                path.write_text(write_po(kept, where))
                compiled.write_bytes(compile_mo(kept))
            problems += [f"{path}: not translated: {message[0]!r}" for message in missing(where, kept)]
            problems += [f"{path}: other placeholders than {message[0]!r}" for message in broken(kept)]
        for problem in problems:
            self.stderr.write(problem)
        if problems:
            raise SystemExit(1)
