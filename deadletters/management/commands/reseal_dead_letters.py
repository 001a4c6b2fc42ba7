"""`manage.py reseal_dead_letters`."""

import json
import time
from argparse import RawDescriptionHelpFormatter
from dataclasses import asdict
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from deadletters.secrets import seal
from deadletters.secrets.reseal import Resealed, reseal

# Seconds between two lines of progress.
EVERY = 2.0


class Command(BaseCommand):
    """Examples:
    manage.py reseal_dead_letters --new-key     print a key for DEADLETTERS_KEYS
    manage.py reseal_dead_letters --dry-run     how many letters are not sealed with the newest key
    manage.py reseal_dead_letters               seal them with it; older keys can then be removed
    manage.py reseal_dead_letters --mask        also mask stored messages and tracebacks by today's names

    To rotate: put a new key before the old ones, restart workers and web, run this, then remove the old keys.
    Exit status: 0 done, 1 some letters stay as they are (their key is lost, or somebody holds them), 2 not possible.
    """

    help = "Seal the payloads of all dead letters with the newest key. Safe to stop and to repeat."

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        kwargs.update(epilog=self.__doc__, formatter_class=RawDescriptionHelpFormatter)
        return super().create_parser(prog_name, subcommand, **kwargs)

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--new-key", action="store_true", help="print a fresh key and do nothing else")
        parser.add_argument(
            "--mask", action="store_true", help="mask stored messages and tracebacks again, of all letters"
        )
        parser.add_argument("--dry-run", action="store_true", help="only count")
        parser.add_argument("--json", action="store_true", help="print the counts as JSON")

    def handle(self, *_: Any, **options: Any) -> None:
        if options["new_key"]:
            self.stdout.write(seal.new_key())
            return
        if not settings.DEADLETTERS_KEYS and not options["mask"]:
            raise CommandError(
                "DEADLETTERS_KEYS is empty, so there is nothing to seal with. --new-key makes a key.", returncode=2
            )
        self._told = time.monotonic()
        done = reseal(mask=options["mask"], dry_run=options["dry_run"], tell=self._progress)
        if options["json"]:
            self.stdout.write(json.dumps({**asdict(done), "dry_run": options["dry_run"]}))
        else:
            self.stdout.write(f"{'Would write' if options['dry_run'] else 'Wrote'} {done.done} letters anew.")
        if done.lost:
            self.stderr.write(f"{done.lost} letters stay as they are: their key is not in DEADLETTERS_KEYS.")
        if done.busy:
            self.stderr.write(f"{done.busy} letters were held by somebody else. Run this again.")
        if done.lost or done.busy:
            raise SystemExit(1)

    def _progress(self, so_far: Resealed) -> None:
        if time.monotonic() - self._told >= EVERY:
            self._told = time.monotonic()
            self.stderr.write(f"{so_far.done} letters …")
