import json
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand

from config.prepare import ADMIN, prepare


class Command(BaseCommand):
    help = """Make the database ready: migrate it, make the groups Operators and Responders, and the default schedules.

Safe to repeat: what somebody edited stays as it is. Run it before new code starts, once, on any machine."""
    epilog = """examples:
  manage.py prepare                    at each deployment
  manage.py prepare --admin            at the first one: also makes the user admin and prints its password
  manage.py prepare --reset-password   when that password is lost"""

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> Any:
        return super().create_parser(
            prog_name, subcommand, epilog=self.epilog, formatter_class=RawDescriptionHelpFormatter, **kwargs
        )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--admin", action="store_true", help=f"Make the user {ADMIN} if there is no superuser.")
        parser.add_argument("--reset-password", action="store_true", help=f"Give {ADMIN} a new password.")
        parser.add_argument("--json", action="store_true", help="Print what was made as JSON.")

    def handle(self, *, admin: bool, reset_password: bool, json: bool, **_: Any) -> None:
        made = prepare(admin=admin, reset_password=reset_password)
        if json:
            self.stdout.write(_as_json(asdict(made)))
            return
        self.stdout.write("The database is ready.")
        for kind, names in (("groups", made.groups), ("schedules", made.schedules)):
            if names:
                self.stdout.write(f"New {kind}: {', '.join(names)}.")
        if made.admin_password:
            self.stdout.write(f"Sign in as {ADMIN} with the password {made.admin_password} (shown only now).")


def _as_json(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=2)
