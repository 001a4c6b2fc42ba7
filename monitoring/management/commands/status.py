import json
import signal
import time
from argparse import ArgumentTypeError, RawDescriptionHelpFormatter
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db import Error, close_old_connections, connection
from django.utils.translation import gettext as _

from deadletters.management.selecting import printable
from monitoring import dashboard, tiles

EXAMPLES = """examples:
  manage.py status               the dashboard's figures
  manage.py status --watch       the same, again every 5 seconds until Ctrl-C
  manage.py status --watch 60    every minute
  manage.py status --json        for scripts; with --watch one line a look

Exit status: 0 all is well, 1 something is wrong (the last lines say what), 2 PostgreSQL is away. With --watch that of the last look,
and PostgreSQL may go and come back meanwhile."""

# Clears a terminal and goes to its first line.
CLEAR = "\x1b[2J\x1b[H"


class Command(BaseCommand):
    help = "Print how it is going: the figures of the dashboard."

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        kwargs.update(epilog=EXAMPLES, formatter_class=RawDescriptionHelpFormatter)
        return super().create_parser(prog_name, subcommand, **kwargs)

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print the figures as JSON")
        parser.add_argument(
            "--watch", nargs="?", type=_seconds, const=5.0, metavar="SECONDS", help="look again, every 5 seconds"
        )

    def handle(self, *_: Any, **options: Any) -> None:
        every, as_json = options["watch"], options["json"]
        if every:
            for number in (signal.SIGINT, signal.SIGTERM):  # a shell's background job begins with the first one ignored
                signal.signal(number, signal.default_int_handler)
        code = int(self._look(as_json=as_json, watching=bool(every)))
        try:
            while every:
                time.sleep(every)
                code = self._look_again(as_json=as_json)
        except KeyboardInterrupt:
            pass
        if code:
            raise SystemExit(code)

    def _look_again(self, *, as_json: bool) -> int:
        """The exit status of one look more."""
        close_old_connections()  # what PostgreSQL ended when it was restarted
        try:
            return int(self._look(as_json=as_json, watching=True))
        except Error:
            self.stderr.write("PostgreSQL does not answer.")
            connection.close()
            return 2

    def _look(self, *, as_json: bool, watching: bool) -> bool:
        """Print once; returns whether something is wrong."""
        figures = dashboard.figures()
        troubles = tiles.troubles(figures)
        if as_json:
            text = json.dumps({**dashboard.as_dict(figures), "troubles": troubles}, indent=None if watching else 2)
        else:
            lines = [f"{tile.title:<20} {tile.value:>12}   {tile.note}" for tile in tiles.tiles(figures)]
            lines += [f"{error.open!s:>8}  {error.task_name or '–'}  {error.name}" for error in figures.errors]
            lines += [
                f"{tiles.age(figures.at - since):>8}  {_('late')}  {schedule.name}" for schedule, since in figures.late
            ]
            text = printable("\n".join([*lines, *(f"! {trouble}" for trouble in troubles)]))
            if watching and self.stdout.isatty():
                text = CLEAR + text
        self.stdout.write(text)
        self.stdout.flush()
        return bool(troubles)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0
    if not 0.5 <= seconds <= 86_400:
        raise ArgumentTypeError(f"{text!r} is no number of seconds; write one from 0.5 to 86400")
    return seconds
