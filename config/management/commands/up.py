from argparse import ArgumentParser, ArgumentTypeError, RawDescriptionHelpFormatter
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from config.embedded import ServerError
from config.environment import VAR_DIR
from config.local import Busy
from config.supervisor import GaveUp
from config.up import up


class Command(BaseCommand):
    help = """Run the whole platform on this machine until Ctrl-C: PostgreSQL, Redis, web, a worker, beat and Flower.

PostgreSQL and Redis come out of Python packages and keep their data under var/; set DATABASE_URL or BROKER_URL to use
servers of yours instead. The first start makes the user admin and shows its password once."""
    epilog = """examples:
  bin/up                     everything, on http://127.0.0.1:8000/
  bin/up --port 8001         when 8000 is taken
  bin/up --reset-password    a new password for admin in the console

Exit code 0: stopped by Ctrl-C or SIGTERM. 1: something started and then failed. 2: it could not start."""
    requires_system_checks = ()

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> Any:
        return super().create_parser(
            prog_name, subcommand, epilog=self.epilog, formatter_class=RawDescriptionHelpFormatter, **kwargs
        )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--port", type=_port, metavar="N", help="Port of the console (WEB_PORT, else 8000).")
        parser.add_argument("--flower-port", type=_port, metavar="N", help="Port of Flower (FLOWER_PORT, else 5555).")
        parser.add_argument("--reset-password", action="store_true", help="Make a new password for admin and show it.")

    def handle(self, *, port: int | None, flower_port: int | None, reset_password: bool, **_: Any) -> None:
        try:
            up(port=port, flower_port=flower_port, reset_password=reset_password, say=self._say)
        except KeyboardInterrupt:
            return
        except (Busy, ServerError) as problem:
            raise CommandError(str(problem), returncode=2) from problem
        except GaveUp as problem:
            raise CommandError(str(problem)) from problem
        except BrokenPipeError:
            raise
        except OSError as problem:  # a full disk, a folder that is not ours
            where = f": {problem.filename}" if problem.filename else ""
            raise CommandError(
                f"{problem.strerror or problem}{where}. What `up` keeps is in {VAR_DIR}.", returncode=2
            ) from problem

    def _say(self, text: str) -> None:
        self.stdout.write(text)
        self.stdout.flush()


def _port(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 1 <= int(text) <= 65535):
        raise ArgumentTypeError(f"{text!r} is no port; ports are 1 to 65535")
    return int(text)
