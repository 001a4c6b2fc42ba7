"""`manage.py import_schedules`."""

import json
import sys
from argparse import RawDescriptionHelpFormatter
from collections import Counter
from pathlib import Path
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError, CommandParser

from schedules.import_plan import NotAllowed, Step, apply, lines, plan
from schedules.models import Schedule
from schedules.spec import Spec
from schedules.yaml_file import BadFile, load


class Command(BaseCommand):
    """Examples:
    manage.py import_schedules schedules.yaml --dry-run
    manage.py import_schedules schedules.yaml --as ana
    manage.py import_schedules schedules.yaml --as ana --prune

    The plan: + create, ~ change, - remove (only with --prune), ! refused. The rules are those of the form in the console, and
    the permissions those of USER. When one is refused, nothing is written.
    exit: 0 done (or would be), 1 something is refused, 2 not possible (no such file, no YAML, no permission, servers away)
    """

    help = "Create and change schedules as a YAML file says; --dry-run only shows the plan."

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        kwargs.setdefault("formatter_class", RawDescriptionHelpFormatter)
        kwargs.setdefault("epilog", self.__doc__)
        return super().create_parser(prog_name, subcommand, **kwargs)

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", metavar="FILE", help="the file; - is standard input")
        parser.add_argument("--dry-run", action="store_true", help="show the plan, write nothing")
        parser.add_argument("--prune", action="store_true", help="also remove schedules that are not in the file")
        parser.add_argument("--anyway", action="store_true", help="also with tasks and queues that are unknown here")
        parser.add_argument(
            "--as", dest="user", default="", metavar="USER", help="who imports; needed unless --dry-run, and recorded"
        )
        parser.add_argument("--json", action="store_true", help="print the plan as JSON")

    def handle(self, *_: Any, **options: Any) -> None:
        by = self._user(options)
        specs = _read(options["file"])
        steps = plan(specs, prune=options["prune"], anyway=options["anyway"])
        refused = any(step.act == "refused" for step in steps)
        written = not refused and not options["dry_run"]
        if written and by:
            try:
                apply(steps, by=by)
            except NotAllowed as problem:
                raise CommandError(f"Nothing was written. {problem}", returncode=2) from None
        self._say(steps, specs, options, written=written)
        if refused:
            raise CommandError("Nothing was written: mend what is refused first.", returncode=1)

    def _user(self, options: dict[str, Any]) -> User | None:
        if not options["user"]:
            if options["dry_run"]:
                return None
            raise CommandError("Say who imports: --as USER. Or look first: --dry-run.", returncode=2)
        user = get_user_model().objects.filter(username=options["user"], is_active=True).first()
        if user is None:
            raise CommandError(f"There is no active user {options['user']!r}.", returncode=2)
        return user

    def _say(self, steps: list[Step], specs: list[Spec], options: dict[str, Any], *, written: bool) -> None:
        counts = Counter(step.act for step in steps)
        if options["json"]:
            self.stdout.write(
                json.dumps({"written": written, **_as_json(steps)}, indent=2, ensure_ascii=False, default=str)
            )
            return
        for step in steps:
            for line in lines(step):
                self.stdout.write(line)
        names = ("create", "change", "remove")
        said = ", ".join(f"{counts[act]} {'' if written else 'to '}{act}{'d' if written else ''}" for act in names)
        self.stdout.write(f"{said}, {counts['unchanged']} unchanged, {counts['refused']} refused.")
        if not options["prune"]:
            rest = Schedule.objects.count() - Schedule.objects.filter(name__in=[spec["name"] for spec in specs]).count()
            if rest:
                self.stdout.write(f"{rest} not in the file stay as they are (--prune would remove them).")


def _read(file: str) -> list[Spec]:
    try:
        return load(sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8"))
    except BadFile as problem:
        raise CommandError(f"{file} is not a file of schedules. {problem}", returncode=2) from None
    except UnicodeDecodeError:
        raise CommandError(f"{file} is not UTF-8.", returncode=2) from None
    except OSError as problem:
        raise CommandError(f"{file} cannot be read: {problem.strerror}.", returncode=2) from None


def _as_json(steps: list[Step]) -> dict[str, Any]:
    found: dict[str, Any] = {act: [] for act in ("create", "change", "remove", "refused")}
    for step in steps:
        if step.act in found:
            changes = [{"key": change.key, "from": change.before, "to": change.after} for change in step.changes]
            problems = [{"key": key, "reason": why} for key, why in step.problems]
            found[step.act].append(
                {"name": step.name, **({"problems": problems} if problems else {"changes": changes})}
            )
    return {**found, "unchanged": sum(step.act == "unchanged" for step in steps)}
