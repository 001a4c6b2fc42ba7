"""`manage.py redrives`."""

from argparse import RawDescriptionHelpFormatter
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils.timezone import localtime

from deadletters import audit
from deadletters.management.selecting import at_least_one, named_user, print_json, table
from deadletters.models import Redrive
from deadletters.redrive import redrive, tend
from deadletters.redrive.tally import tally
from deadletters.selection import Selection

PERMISSION = "deadletters.start_redrive"


class Command(BaseCommand):
    """Examples:
    manage.py redrives                  the newest redrives, and how far they are
    manage.py redrives --pause 12
    manage.py redrives --resume 12 --as ana
    manage.py redrives --cancel 12 --json
    """

    help = "List redrives; pause, resume or cancel one."

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        kwargs |= {"formatter_class": RawDescriptionHelpFormatter, "epilog": self.__doc__}
        return super().create_parser(prog_name, subcommand, **kwargs)

    def add_arguments(self, parser: CommandParser) -> None:
        act = parser.add_mutually_exclusive_group()
        for name, what in (("pause", "send nothing more"), ("resume", "go on"), ("cancel", "leave the rest open")):
            act.add_argument(f"--{name}", type=int, metavar="N", help=f"{what} of redrive N")
        parser.add_argument(
            "--as", dest="user", default="", metavar="USER", help="who acts: needs the permission, is recorded"
        )
        parser.add_argument("--limit", type=at_least_one, default=20, help="list at most so many (default: 20)")
        parser.add_argument("--json", action="store_true", help="print JSON for other programs")

    def handle(self, *_: Any, **options: Any) -> None:
        verbs = {"pause": redrive.pause, "resume": tend.resume, "cancel": redrive.cancel}
        for name, verb in verbs.items():
            if (number := options[name]) is not None:
                self._act(verb, number, options)
                return
        self._list(list(Redrive.objects.all()[: options["limit"]]), options)

    def _act(self, verb: Any, number: int, options: dict[str, Any]) -> None:
        by = named_user(options["user"], PERMISSION)
        one = Redrive.objects.filter(pk=number).first()
        if one is None:
            raise CommandError(f"There is no redrive {number}.", returncode=2)
        try:
            verb(one, by=by, origin=audit.of_command("redrives"))
        except redrive.NotRedrivable as refusal:
            raise CommandError(str(refusal), returncode=1) from None
        self._list([one], options)

    def _list(self, found: list[Redrive], options: dict[str, Any]) -> None:
        for one in found:
            tally(one)
        if options["json"]:
            print_json(self, [_facts(one) for one in found])
        elif not found:
            self.stdout.write("No redrives.")
        else:
            head = ("N", "STATE", "STARTED", "SENT", "OK", "DIED", "BY", "LETTERS")
            self.stdout.write(table((_row(one) for one in found), head))


def _row(one: Redrive) -> tuple[str, ...]:
    words = Selection.from_json(one.selection).in_words()
    at = f"{localtime(one.created_at):%Y-%m-%d %H:%M}"
    numbers = f"{one.sent}/{one.total}", str(one.succeeded), str(one.died)
    return str(one.pk), one.get_state_display(), at, *numbers, one.who or "-", words


def _facts(one: Redrive) -> dict[str, Any]:
    names = (
        "id",
        "state",
        "why",
        "total",
        "sent",
        "succeeded",
        "died",
        "skipped",
        "reason",
        "who",
        "origin",
        "created_at",
        "ended_at",
    )
    return {name: getattr(one, name) for name in names}
