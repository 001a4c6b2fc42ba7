"""What the commands over dead letters share: how letters are named, who acts, what the letters look like in JSON."""

import json
import re
from argparse import ArgumentTypeError, RawDescriptionHelpFormatter
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError, CommandParser

from deadletters.models import Cause, DeadLetter, State
from deadletters.search import TooShort
from deadletters.secrets.redact import redactor
from deadletters.selection import Selection, parse_since

CHUNK = 500  # letters read at once
# What a terminal obeys instead of showing it.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class SelectingCommand(BaseCommand):
    """A command over letters that are named by number, task id or filter. Exit 0 done, 1 something was refused, 2 not possible."""

    # Letters in these states are meant when --state is not given.
    default_states: tuple[str, ...] = ()

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        kwargs.setdefault("formatter_class", RawDescriptionHelpFormatter)
        kwargs.setdefault("epilog", self.__doc__)
        return super().create_parser(prog_name, subcommand, **kwargs)

    def add_arguments(self, parser: CommandParser) -> None:
        which = parser.add_argument_group("which letters (all that are given must hold)")
        which.add_argument("ids", nargs="*", metavar="ID", help="a letter's number or a task id")
        which.add_argument(
            "--task", action="append", default=[], metavar="NAME", help="the task's name; may be repeated"
        )
        which.add_argument(
            "--cause", action="append", default=[], choices=Cause.values, help="how it died; may be repeated"
        )
        which.add_argument(
            "--queue", action="append", default=[], metavar="NAME", help="the queue it died in; may be repeated"
        )
        which.add_argument("--state", action="append", default=[], choices=State.values, help=self._state_help())
        which.add_argument(
            "--error",
            default="",
            metavar="FINGERPRINT",
            help="letters of one error, as `list_dead_letters --json` names it",
        )
        which.add_argument(
            "--since", type=_since, metavar="TIME", help="died since then: 30m, 2h, 7d ago, or 2026-11-23 09:00"
        )
        which.add_argument("--until", type=_since, metavar="TIME", help="died before then, written like --since")
        which.add_argument("--workflow", default="", metavar="ID", help="letters of the workflow with this root id")
        which.add_argument(
            "--search",
            default="",
            metavar="TEXT",
            help="a task or workflow id, or text in the error or the task's name",
        )
        parser.add_argument("--json", action="store_true", help="print JSON for other programs")

    def _state_help(self) -> str:
        return f"state; may be repeated (default: {', '.join(self.default_states) or 'any'})"

    def selection(self, options: dict[str, Any]) -> Selection:
        """What the arguments name.

        Raises:
            CommandError: an id that no letter has (exit 2): a typing error must not pass as "nothing to do".
        """
        selection = Selection(
            ids=tuple(options["ids"]),
            # A letter that is named is meant whatever its state: what cannot be done with it is then said, not passed over.
            states=tuple(options["state"] or (() if options["ids"] else self.default_states)),
            tasks=tuple(options["task"]),
            causes=tuple(options["cause"]),
            queues=tuple(options["queue"]),
            error=options["error"],
            since=options["since"],
            until=options["until"],
            root=options["workflow"],
            text=options["search"],
        )
        try:
            selection.letters()
        except TooShort as refusal:
            raise CommandError(f"--search: {refusal}", returncode=2) from None
        if unknown := [name for name in selection.ids if not Selection(ids=(name,)).letters().exists()]:
            raise CommandError(f"No dead letter has the number or task id {', '.join(unknown)}.", returncode=2)
        return selection

    def say_json(self, value: object) -> None:
        """Print `value` as JSON; the only thing on standard output then."""
        print_json(self, value)


class ActingCommand(SelectingCommand):
    """A command that changes letters: needs a filter or --all, takes a reason, records who acted."""

    default_states = (State.OPEN.value,)
    permission = ""

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--all", action="store_true", help="needed when no letter is named and no filter is given")
        parser.add_argument("--reason", default="", help="why; kept in the letter's trail")
        parser.add_argument(
            "--as",
            dest="user",
            default="",
            metavar="USER",
            help="who acts: needs that user's permission, and is recorded",
        )
        parser.add_argument("--dry-run", action="store_true", help="say what would be done, do nothing")

    def chosen(self, options: dict[str, Any]) -> Selection:
        """The selection, refused when it is everything and nobody said --all."""
        selection = self.selection(options)
        if selection.empty and not options["all"]:
            raise CommandError("This would be every open letter. Name some, give a filter, or say --all.", returncode=2)
        return selection

    def actor(self, options: dict[str, Any]) -> User | None:
        """The user that --as names, None without.

        Raises:
            CommandError: no such user, or without the permission (exit 2).
        """
        return named_user(options["user"], self.permission)


def named_user(name: str, permission: str) -> User | None:
    """The user that --as names, None without.

    Raises:
        CommandError: no such user, or without the permission (exit 2).
    """
    if not name:
        return None
    user = get_user_model().objects.filter(username=name, is_active=True).first()
    if user is None:
        raise CommandError(f"There is no user {name!r}.", returncode=2)
    if not user.has_perm(permission):
        raise CommandError(f"{user} lacks the permission {permission}.", returncode=2)
    return user


def print_json(command: BaseCommand, value: object) -> None:
    """JSON on standard output."""
    command.stdout.write(json.dumps(value, indent=2, default=str, ensure_ascii=False))


def summary(letter: DeadLetter) -> dict[str, object]:
    """One letter as JSON has it in lists."""
    return {
        "id": letter.pk,
        "task_id": letter.task_id,
        "task": letter.task_name,
        "state": letter.state,
        "cause": letter.cause,
        "exception": letter.exception_type,
        "message": redactor().text(letter.exception_message),
        "error": letter.fingerprint,
        "queue": letter.queue,
        "worker": letter.worker,
        "retries": letter.retries,
        "deaths": letter.deaths,
        "replays": letter.replay_number,
        "died_at": letter.died_at.isoformat(),
    }


def printable(text: str) -> str:
    """`text` with control characters as visible escapes: an error's message must not clear the screen or rename the window."""
    return _CONTROL.sub(lambda found: repr(found[0])[1:-1], text)


def table(rows: Iterable[tuple[str, ...]], head: tuple[str, ...]) -> str:
    """Columns as wide as their widest cell; the last one as it comes."""
    lines = [tuple(printable(cell).replace("\n", "\\n") for cell in line) for line in (head, *rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head) - 1)]
    return "\n".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(line, widths, strict=False)), line[-1]]).rstrip()
        for line in lines
    )


def at_least_one(text: str) -> int:
    """A number of lines to print.

    Raises:
        ArgumentTypeError: it is none.
    """
    if not re.fullmatch(r"[1-9]\d{0,8}", text, re.ASCII):
        raise ArgumentTypeError(f"{text!r} is no number of lines; write a whole number from 1 on")
    return int(text)


def _since(text: str) -> datetime:
    try:
        return parse_since(text)
    except ValueError as problem:
        raise ArgumentTypeError(str(problem)) from None
