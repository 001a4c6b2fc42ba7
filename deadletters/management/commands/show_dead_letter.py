"""`manage.py show_dead_letter`."""

import json
from argparse import RawDescriptionHelpFormatter
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils.timezone import localtime

from deadletters.envelope import Envelope
from deadletters.management.selecting import summary
from deadletters.models import DeadLetter
from deadletters.selection import Selection
from deadletters.workflow import sets_free


class Command(BaseCommand):
    """Examples:
    manage.py show_dead_letter 42
    manage.py show_dead_letter 4f9c1a52-9a53-4a39-b1c5-5b8f3c6f8f6a --json
    """

    help = "Show one dead letter: its traceback, arguments, trail, and what a replay would set free."

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        return super().create_parser(
            prog_name, subcommand, formatter_class=RawDescriptionHelpFormatter, epilog=self.__doc__, **kwargs
        )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("id", help="the letter's number or its task id")
        parser.add_argument("--json", action="store_true", help="print JSON for other programs")

    def handle(self, *_: Any, **options: Any) -> None:
        letter = Selection(ids=(options["id"],)).letters().defer(None).first()
        if letter is None:
            raise CommandError(f"No dead letter has the number or task id {options['id']}.", returncode=2)
        facts = _facts(letter)
        if options["json"]:
            self.stdout.write(json.dumps(facts, indent=2, default=str, ensure_ascii=False))
            return
        self.stdout.write(
            f"{letter.exception_type or letter.get_cause_display()} in {letter.task_name or 'a message'}: {letter.get_state_display()}"
        )
        for name in (
            "id",
            "task_id",
            "cause",
            "message",
            "queue",
            "worker",
            "retries",
            "deaths",
            "replays",
            "died_at",
            "args",
            "kwargs",
            "sets_free",
        ):
            self.stdout.write(f"  {name:10} {_plain(facts[name])}")
        self.stdout.write("\nTrail")
        for event in letter.events.select_related("actor"):
            who = f" by {event.actor}" if event.actor else ""
            self.stdout.write(
                f"  {localtime(event.at):%Y-%m-%d %H:%M:%S}  {event.get_kind_display()}{who}{': ' + event.text if event.text else ''}"
            )
        if letter.traceback:
            self.stdout.write(f"\n{letter.traceback}")


def _facts(letter: DeadLetter) -> dict[str, object]:
    arguments = Envelope.of(letter).arguments()
    return {
        **summary(letter),
        "args": arguments.args if arguments else None,
        "kwargs": arguments.kwargs if arguments else None,
        "sets_free": sets_free(letter).names,
        "traceback": letter.traceback,
        "events": [
            {"at": event.at.isoformat(), "kind": event.kind, "by": event.actor and str(event.actor), "text": event.text}
            for event in letter.events.select_related("actor")
        ],
    }


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
