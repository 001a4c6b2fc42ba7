from typing import Any

from django.core.management.base import BaseCommand, CommandError

from config import groups


class Command(BaseCommand):
    help = (
        "Make the groups Responders (see everything, replay and discard dead letters) and Operators (also start and cancel "
        "runs, edit and run schedules). A group that exists stays as it is. `manage.py prepare` does this too."
    )

    def handle(self, **_: Any) -> None:
        try:
            made = groups.seed()
        except LookupError as problem:
            raise CommandError(problem.args[0]) from problem
        self.stdout.write(f"New groups: {', '.join(made)}." if made else "All groups are there; nothing was changed.")
