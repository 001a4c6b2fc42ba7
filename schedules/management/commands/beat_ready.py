import json
import socket
from argparse import RawDescriptionHelpFormatter
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db import DatabaseError

from schedules.liveness import liveness

EXAMPLES = """examples:
  manage.py beat_ready              a beat of this host ticks, whether it leads or stands by (a container's health check)
  manage.py beat_ready --any        some beat leads and ticks: schedules run
  manage.py beat_ready --any --json

Exit status: 0 it ticks, 1 it does not, 2 PostgreSQL does not answer."""


class Command(BaseCommand):
    help = "Whether beat is alive: it leads or stands by, and ticked within the last seconds."
    requires_system_checks: list[str] = []

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        kwargs.update(epilog=EXAMPLES, formatter_class=RawDescriptionHelpFormatter)
        return super().create_parser(prog_name, subcommand, **kwargs)

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--any", action="store_true", help="ask for a leader on any host, not for a beat of this one"
        )
        parser.add_argument("--json", action="store_true", help="print what was found as JSON")

    def handle(self, *_: Any, **options: Any) -> None:
        host = "" if options["any"] else socket.gethostname()
        try:
            found = liveness(host)
        except DatabaseError as problem:
            self.stderr.write(f"PostgreSQL does not answer: {str(problem).strip().splitlines()[0]}")
            raise SystemExit(2) from None
        age = None if found.age is None else found.age.total_seconds()
        if options["json"]:
            facts = {"ready": not found.silent, "beat": found.leader, "age": age, "standing_by": found.standing_by}
            self.stdout.write(json.dumps(facts))
        elif age is None:
            self.stdout.write(
                f"No beat {f'of {host}' if host else 'that leads'} has ticked lately. Start one: celery -A config beat"
            )
        else:
            self.stdout.write(f"{found.leader} ticked {age:.1f} s ago.")
        if found.silent:
            raise SystemExit(1)
