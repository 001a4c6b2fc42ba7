"""`manage.py export_schedules`."""

import json
from argparse import RawDescriptionHelpFormatter
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from schedules.models import Schedule
from schedules.spec import compact, spec_of
from schedules.yaml_file import dump


class Command(BaseCommand):
    """Examples:
    manage.py export_schedules schedules.yaml
    manage.py export_schedules --task sales.report | less

    Read back by import_schedules. What beat notes (last run, count) is not in it.
    exit: 0 done, 2 not possible
    """

    help = "Write the schedules as YAML, in the order of their names: for review in git, or for another installation."

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        kwargs.setdefault("formatter_class", RawDescriptionHelpFormatter)
        kwargs.setdefault("epilog", self.__doc__)
        return super().create_parser(prog_name, subcommand, **kwargs)

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", nargs="?", default="-", metavar="FILE", help="where to; standard output without it")
        parser.add_argument(
            "--task", action="append", default=[], metavar="NAME", help="only of this task; may be repeated"
        )
        parser.add_argument("--json", action="store_true", help="print JSON for other programs instead of YAML")

    def handle(self, *_: Any, **options: Any) -> None:
        rows = Schedule.objects.select_related("crontab", "interval", "clocked", "solar", "policy").order_by("name")
        if options["task"]:
            rows = rows.filter(task__in=options["task"])
        text = (
            json.dumps([compact(spec_of(row)) for row in rows], indent=2, ensure_ascii=False)
            if options["json"]
            else dump(rows)
        )
        if options["file"] == "-":
            self.stdout.write(text, ending="" if text.endswith("\n") else "\n")
            return
        try:
            Path(options["file"]).write_text(text, encoding="utf-8")
        except OSError as problem:
            raise CommandError(f"{options['file']} cannot be written: {problem.strerror}.", returncode=2) from None
        self.stderr.write(f"{len(rows)} schedules were written to {options['file']}.")
