import json
import time
from argparse import ArgumentTypeError, RawDescriptionHelpFormatter
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

from deadletters.models import State
from deadletters.prune import Retention
from monitoring import retention

EXAMPLES = """examples:
  manage.py prune --dry-run                  how much would go
  manage.py prune                            delete what is beyond RETENTION_DAYS, DEADLETTERS_RETENTION_DAYS and _COUNT
  manage.py prune --older-than-days 30 --json

Never deleted: replaying letters, the results that waiting letters, the rest of their runs and unfinished chords need; and open
letters, unless DEADLETTERS_RETENTION_DAYS or DEADLETTERS_RETENTION_COUNT names `open`.
Exit status: 0 done, 2 wrong usage or a server is away."""

# Seconds between two lines of progress.
EVERY = 2.0


class Command(BaseCommand):
    help = "Delete old results and their files, runs, chords, and resolved or discarded dead letters. Safe to stop and to repeat."

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        kwargs.update(epilog=EXAMPLES, formatter_class=RawDescriptionHelpFormatter)
        return super().create_parser(prog_name, subcommand, **kwargs)

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--older-than-days", type=_days, metavar="N",
            help=f"delete what ended more than N days ago (default: the settings' ages; RETENTION_DAYS is {settings.RETENTION_DAYS})",
        )  # fmt: skip
        parser.add_argument("--dry-run", action="store_true", help="only count")
        parser.add_argument("--json", action="store_true", help="print the counts as JSON")

    def handle(self, *_: Any, **options: Any) -> None:
        self._told = time.monotonic()
        days, dry_run = options["older_than_days"], options["dry_run"]
        pruned = retention.prune(days, dry_run=dry_run, tell=self._progress).as_dict()
        days = days or settings.RETENTION_DAYS
        if options["json"]:
            self.stdout.write(json.dumps({**pruned, "older_than_days": days, "dry_run": dry_run}))
            return
        open_letters = pruned.pop("open_dead_letters")
        what = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in pruned.items())
        self.stdout.write(f"{'Would delete' if dry_run else 'Deleted'} {what} (older than {days} days).")
        if retention.kept()[State.OPEN] != Retention():
            words = "would be deleted" if dry_run else "were deleted"
            self.stdout.write(f"{open_letters} open dead letters {words}, too, as DEADLETTERS_RETENTION_* says.")

    def _progress(self, what: str, gone: int) -> None:
        if time.monotonic() - self._told >= EVERY:
            self._told = time.monotonic()
            self.stderr.write(f"{gone} {what} …")


def _days(text: str) -> int:
    # Beyond 100,000 days PostgreSQL's calendar and Python's disagree about the year.
    if not text.isdecimal() or not 1 <= int(text) <= 100_000:
        raise ArgumentTypeError(f"{text!r} is no number of days; write a whole number from 1 to 100000")
    return int(text)
