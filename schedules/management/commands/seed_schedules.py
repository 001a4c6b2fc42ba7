"""`manage.py seed_schedules`."""

import json
from argparse import RawDescriptionHelpFormatter
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from schedules.seed import SEEDS, seed


class Command(BaseCommand):
    help = "Create the default schedules that are missing. Changes no schedule that exists, so it may run at every deployment."

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        kwargs.setdefault("formatter_class", RawDescriptionHelpFormatter)
        kwargs.setdefault(
            "epilog",
            "examples:\n"
            "  manage.py seed_schedules\n"
            "  manage.py seed_schedules --json\n\n"
            "A default schedule that was deleted is created again; disable it instead.\n"
            "Cron lines are in CELERY_TIMEZONE (TIME_ZONE when that is empty).\n"
            "exit: 0 done, 2 not possible (servers away, wrong usage)",
        )
        return super().create_parser(prog_name, subcommand, **kwargs)

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help='print {"created": [names], "existing": [names]}')

    def handle(self, *_args: object, **options: Any) -> None:
        created = seed()
        existing = [one.name for one in SEEDS if one.name not in created]
        if options["json"]:
            self.stdout.write(json.dumps({"created": created, "existing": existing}))
            return
        for name in created:
            self.stdout.write(f"created: {name}")
        for name in existing:
            self.stdout.write(f"already there: {name}")
