"""`manage.py reap_workers`."""

import json
from argparse import RawDescriptionHelpFormatter
from dataclasses import asdict
from datetime import timedelta
from typing import Any

from celery import current_app
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import Error
from kombu.exceptions import OperationalError

from deadletters.capture.reaper import reap

EXAMPLES = """examples:
  manage.py reap_workers               what every worker does by itself, every few seconds
  manage.py reap_workers --after 120   only workers that have been silent for two minutes
  manage.py reap_workers --json

Exit status: 0 done, 2 PostgreSQL or the broker is away."""

LONGEST = 10 * 365 * 86_400.0


class Command(BaseCommand):
    help = (
        "Look for workers that were lost: what they held runs again, what they had acknowledged becomes dead letters."
    )

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        kwargs.update(epilog=EXAMPLES, formatter_class=RawDescriptionHelpFormatter)
        return super().create_parser(prog_name, subcommand, **kwargs)

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--after", type=float, metavar="SECONDS", help="silence that counts as lost")
        parser.add_argument("--json", action="store_true", help="print the result as JSON")

    def handle(self, *_: Any, **options: Any) -> None:
        after = settings.WORKER_LOST_AFTER if options["after"] is None else options["after"]
        if not settings.WORKER_LOST_AFTER <= after <= LONGEST:
            raise CommandError(
                f"--after is a number of seconds from {settings.WORKER_LOST_AFTER:g} on: a worker that was silent for less may be alive.",
                returncode=2,
            )
        try:
            reaped = reap(current_app, timedelta(seconds=after))
        except (Error, OperationalError, OSError) as problem:
            raise CommandError(f"Nothing was done, a server is away: {problem}", returncode=2) from problem
        if options["json"]:
            self.stdout.write(json.dumps(asdict(reaped)))
            return
        self.stdout.write(
            f"Workers lost: {', '.join(reaped.workers) or 'none'}. Dead letters: {reaped.letters}."
            f" Messages back in their queues: {reaped.restored}."
        )
