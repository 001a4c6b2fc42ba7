import json
from argparse import RawDescriptionHelpFormatter
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from deadletters.capture.announce import flush
from deadletters.capture.drain import drain
from deadletters.capture.spool import SpoolError, spool

EXAMPLES = """examples:
  manage.py drain_spool           store what waits
  manage.py drain_spool --json

A worker does this by itself, two seconds after PostgreSQL is back. The command is for a host whose workers will not run again: there,
or wherever its folder DEADLETTERS_SPOOL was copied to. Safe to stop and to repeat.
Exit status: 0 done, 1 some lines were set aside because they are no letters, 2 wrong usage or a server or the spool is away."""


class Command(BaseCommand):
    help = "Store the letters that waited in the spool while PostgreSQL was away."

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        kwargs.update(epilog=EXAMPLES, formatter_class=RawDescriptionHelpFormatter)
        return super().create_parser(prog_name, subcommand, **kwargs)

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print the counts as JSON")

    def handle(self, *_: Any, **options: Any) -> None:
        try:
            drained = drain()
            aside = spool().aside()
        except SpoolError as problem:
            raise CommandError(f"{problem}. Nothing that waits there is lost.", returncode=2) from problem
        flush(timeout=30)
        if options["json"]:
            self.stdout.write(json.dumps({**asdict(drained), "aside": aside, "spool": spool().place}))
        else:
            self.stdout.write(
                f"Stored {drained.stored} letters from {spool().place} ({drained.duplicates} were stored already)."
            )
            if aside:
                self.stdout.write(f"{aside} lines there are no letters; they are kept in files that end in .set-aside.")
        if drained.set_aside:
            raise SystemExit(1)
