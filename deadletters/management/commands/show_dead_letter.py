"""`manage.py show_dead_letter`."""

import json
from argparse import RawDescriptionHelpFormatter
from collections.abc import Iterator
from typing import Any

from django.contrib.auth import get_user_model
from django.core.exceptions import PermissionDenied
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils.timezone import localtime

from deadletters.audit import of_command
from deadletters.management.selecting import printable, summary
from deadletters.models import DeadLetter
from deadletters.replay.workflow import sets_free
from deadletters.secrets.payload import Payload, masked, read
from deadletters.secrets.redact import redactor
from deadletters.selection import Selection

_SHOWN = (
    "id", "task_id", "cause", "message", "queue", "worker", "retries", "deaths", "replays", "died_at", "args", "kwargs",
)  # fmt: skip


class Command(BaseCommand):
    """Examples:
    manage.py show_dead_letter 42
    manage.py show_dead_letter 4f9c1a52-9a53-4a39-b1c5-5b8f3c6f8f6a --json
    manage.py show_dead_letter 42 --payload --as ana       unmasked; ana needs the permission, and it is noted

    What looks like a secret is shown as ••••; a replay sends the true value.
    """

    help = "Show one dead letter: its traceback, arguments, trail, and what a replay would set free."

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        return super().create_parser(
            prog_name, subcommand, formatter_class=RawDescriptionHelpFormatter, epilog=self.__doc__, **kwargs
        )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("id", help="the letter's number or its task id")
        parser.add_argument("--payload", action="store_true", help="arguments and envelope as they are; needs --as")
        parser.add_argument("--as", dest="user", default="", metavar="USER", help="who reads the payload; recorded")
        parser.add_argument("--json", action="store_true", help="print JSON for other programs")

    def handle(self, *_: Any, **options: Any) -> None:
        letter = Selection(ids=(options["id"],)).letters().defer(None).first()
        if letter is None:
            raise CommandError(f"No dead letter has the number or task id {options['id']}.", returncode=2)
        payload = self._read(letter, options["user"]) if options["payload"] else masked(letter)
        facts = _facts(letter, payload)
        if options["json"]:
            self.stdout.write(json.dumps(facts, indent=2, default=str, ensure_ascii=False))
            return
        shown = [*_SHOWN, *(["envelope"] if options["payload"] else []), "sets_free"]
        facts_shown = {name: facts[name] for name in shown}
        self.stdout.write(printable("\n".join(_lines(letter, payload, facts_shown, str(facts["traceback"])))))

    def _read(self, letter: DeadLetter, name: str) -> Payload:
        user = get_user_model().objects.filter(username=name).first()
        if user is None:
            raise CommandError(
                f"There is no user {name!r}." if name else "--payload needs --as USER: who reads it is recorded.",
                returncode=2,
            )
        try:
            return read(letter, by=user, origin=of_command("show_dead_letter"))
        except PermissionDenied as refusal:
            raise CommandError(str(refusal), returncode=2) from None


def _lines(letter: DeadLetter, payload: Payload, facts: dict[str, object], traceback: str) -> Iterator[str]:
    yield f"{letter.exception_type or letter.get_cause_display()} in {letter.task_name or 'a message'}: {letter.get_state_display()}"
    for name, value in facts.items():
        yield f"  {name:10} {_plain(value)}"
    yield "\nTrail"
    for event in letter.events.select_related("actor"):
        who = f" by {event.actor}" if event.actor else ""
        text = f": {redactor().text(event.text)}" if event.text else ""
        yield f"  {localtime(event.at):%Y-%m-%d %H:%M:%S}  {event.get_kind_display()}{who}{text}"
    if payload.problem:
        yield f"\n{payload.problem}"
    if traceback:
        yield f"\n{traceback}"
    elif not letter.traceback_kept:
        yield "\nThe traceback was not kept: there were many letters of this error already."


def _facts(letter: DeadLetter, payload: Payload) -> dict[str, object]:
    return {
        **summary(letter),
        "args": payload.args,
        "kwargs": payload.kwargs,
        "envelope": payload.envelope,
        "problem": payload.problem,
        "sets_free": sets_free(letter).names,
        "traceback": redactor().text(letter.traceback),
        "events": [
            {
                "at": event.at.isoformat(),
                "kind": event.kind,
                "by": event.actor and str(event.actor),
                "text": redactor().text(event.text),
            }
            for event in letter.events.select_related("actor")
        ],
    }


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
