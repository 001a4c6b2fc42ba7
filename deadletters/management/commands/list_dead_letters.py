"""`manage.py list_dead_letters`."""

from typing import Any

from django.core.management.base import CommandParser
from django.utils.timezone import localtime

from deadletters.management.selecting import SelectingCommand, at_least_one, summary, table
from deadletters.models import State
from deadletters.secrets.redact import redactor


class Command(SelectingCommand):
    """Examples:
    manage.py list_dead_letters                                the newest open letters
    manage.py list_dead_letters --task pipelines.fetch_image   of one task
    manage.py list_dead_letters --since 2h --cause worker_lost
    manage.py list_dead_letters --state resolved --limit 5 --json
    """

    help = "List dead letters, newest first."
    default_states = (State.OPEN.value,)

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--limit", type=at_least_one, default=50, help="at most so many (default: 50)")

    def handle(self, *_: Any, **options: Any) -> None:
        letters = self.selection(options).letters()
        page = list(letters[: options["limit"]])
        if options["json"]:
            self.say_json([summary(letter) for letter in page])
            return
        if not page:
            self.stdout.write("No dead letters.")
            return
        rows = [
            (
                str(x.pk),
                x.get_state_display(),
                f"{localtime(x.died_at):%Y-%m-%d %H:%M:%S}",
                x.task_name or "-",
                x.get_cause_display(),
                _error(x),
            )
            for x in page
        ]
        self.stdout.write(table(rows, ("ID", "STATE", "DIED", "TASK", "CAUSE", "ERROR")))
        if len(page) == options["limit"] and (total := letters.count()) > len(page):
            self.stdout.write(f"… {total - len(page)} more; --limit shows them.")


def _error(letter: Any) -> str:
    return f"{letter.exception_type}: {redactor().text(letter.exception_message)}".split("\n", 1)[0][:100]
