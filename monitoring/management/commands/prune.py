import json
from argparse import ArgumentTypeError, RawDescriptionHelpFormatter
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

from monitoring import retention

EXAMPLES = """examples:
  manage.py prune --dry-run                  how much would go
  manage.py prune                            delete what is older than RETENTION_DAYS
  manage.py prune --older-than-days 30 --json

Never deleted: open and replaying letters, the results that they, the rest of their runs and unfinished chords need.
Exit status: 0 done, 2 wrong usage or a server is away."""


class Command(BaseCommand):
    help = "Delete old results and their files, runs, chords, and resolved or discarded dead letters. Safe to stop and to repeat."

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        kwargs.update(epilog=EXAMPLES, formatter_class=RawDescriptionHelpFormatter)
        return super().create_parser(prog_name, subcommand, **kwargs)

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--older-than-days", type=_days, default=settings.RETENTION_DAYS, metavar="N",
            help="delete what ended more than N days ago (default: RETENTION_DAYS, %(default)s)",
        )  # fmt: skip
        parser.add_argument("--dry-run", action="store_true", help="only count")
        parser.add_argument("--json", action="store_true", help="print the counts as JSON")

    def handle(self, *_: Any, **options: Any) -> None:
        days, dry_run = options["older_than_days"], options["dry_run"]
        pruned = retention.prune(timedelta(days=days), dry_run=dry_run).as_dict()
        if options["json"]:
            self.stdout.write(json.dumps({**pruned, "older_than_days": days, "dry_run": dry_run}))
            return
        what = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in pruned.items())
        self.stdout.write(f"{'Would delete' if dry_run else 'Deleted'} {what} (older than {days} days).")


def _days(text: str) -> int:
    # Beyond 100,000 days PostgreSQL's calendar and Python's disagree about the year.
    if not text.isdecimal() or not 1 <= int(text) <= 100_000:
        raise ArgumentTypeError(f"{text!r} is no number of days; write a whole number from 1 to 100000")
    return int(text)
