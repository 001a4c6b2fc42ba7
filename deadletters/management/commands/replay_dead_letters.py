"""`manage.py replay_dead_letters`."""

import json
import sys
import time
from collections.abc import Iterator
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import CommandError, CommandParser

from deadletters import audit
from deadletters.management.selecting import CHUNK, ActingCommand, printable
from deadletters.models import Redrive
from deadletters.redrive import redrive
from deadletters.redrive.drive import driver_of
from deadletters.redrive.tally import tally
from deadletters.redrive.tend import hand_over
from deadletters.replay.preflight import Preflight, Verdict, preflight
from deadletters.replay.replay import NotReplayable, replay
from deadletters.selection import Selection

_WIDTH = 30


class Command(ActingCommand):
    """Examples:
    manage.py replay_dead_letters 42
    manage.py replay_dead_letters --task pipelines.fetch_image --since 2h --reason "the image server is back"
    manage.py replay_dead_letters --error 1f3c… --dry-run --json
    manage.py replay_dead_letters --all --rate 50 --canary 10 --stop-above 20% --reason "PostgreSQL is back" --as ana

    Named letters are sent one by one. A filter starts a redrive: what dies later is not swept in, each letter is sent once, under its
    own task id, and its workflow goes on. Ctrl-C pauses it; `manage.py redrives --resume N` goes on. Exit 1 when a letter was refused
    or the redrive stopped itself.
    """

    help = "Replay dead letters: send them again, so that their workflows go on."
    permission = "deadletters.replay_deadletter"
    bulk_permission = "deadletters.start_redrive"

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        how = parser.add_argument_group("how a redrive goes about it")
        how.add_argument("--rate", default="", metavar="N", help="letters a second (default: as fast as it goes)")
        how.add_argument("--canary", default="", metavar="N", help="send N first; go on only when they have succeeded")
        how.add_argument(
            "--stop-above", default="", metavar="PERCENT", help="stop when more than so many per cent die again"
        )
        how.add_argument("--detach", action="store_true", help="leave the driving to a worker and return")
        how.add_argument("--wait", action="store_true", help="wait until every letter that was sent has an outcome")

    def handle(self, *_: Any, **options: Any) -> None:
        selection = self.chosen(options)
        self.permission = self.permission if selection.ids else self.bulk_permission
        by, origin = self.actor(options), audit.of_command("replay_dead_letters")
        if options["dry_run"]:
            self._dry_run(selection, options)
        elif selection.ids:
            self._one_by_one(selection, by, origin, options)
        else:
            self._redrive(selection, by, origin, options)

    # --- Look --------------------------------------------------------------------------------------------------------

    def _dry_run(self, selection: Selection, options: dict[str, Any]) -> None:
        """Each letter as soon as it is looked at: a hundred thousand must not wait in memory."""
        counts = dict.fromkeys(Verdict, 0)
        if options["json"]:
            self.stdout.write('{"letters": [', ending="")
        for check in _looked_at(selection):
            first = not any(counts.values())
            counts[check.verdict] += 1
            if options["json"]:
                self.stdout.write(("" if first else ",\n") + json.dumps(check.as_dict(), ensure_ascii=False), ending="")
            else:
                self._say_verdict(check)
        summary = {
            "would_send": counts[Verdict.REPLAYABLE] + counts[Verdict.LOOK],
            **{v.key: n for v, n in counts.items()},
        }
        if options["json"]:
            self.stdout.write(f"], {json.dumps(summary)[1:]}")
        else:
            self.stdout.write(f"Would replay {summary['would_send']} letters: {_counted(counts)}. Nothing was sent.")

    def _say_verdict(self, check: Preflight) -> None:
        letter = check.letter
        frees = f" (sets {len(check.frees.task_ids)} free)" if check.frees.task_ids else ""
        self.stdout.write(printable(f"{letter.pk:>8}  {check.verdict.label:<12}  {letter.task_name}{frees}"))
        for reason in check.reasons:
            self.stdout.write(printable(f"{'':>8}  {'':<12}  {reason}"))

    # --- Send --------------------------------------------------------------------------------------------------------

    def _one_by_one(self, selection: Selection, by: User | None, origin: str, options: dict[str, Any]) -> None:
        sent, refused = 0, []
        for letter in selection.letters().order_by("id").iterator(chunk_size=CHUNK):
            try:
                replay(letter, by=by, reason=options["reason"], origin=origin)
            except NotReplayable as refusal:
                refused.append({"task_id": letter.task_id, "why": str(refusal)})
            else:
                sent += 1
        if options["json"]:
            self.say_json({"sent": sent, "refused": refused})
        else:
            self.stdout.write(f"Sent {sent}, refused {len(refused)}.")
            for one in refused:
                self.stderr.write(printable(f"  {one['task_id']}: {one['why']}"))
        if refused:
            raise SystemExit(1)

    def _redrive(self, selection: Selection, by: User | None, origin: str, options: dict[str, Any]) -> None:
        try:
            conditions = redrive.Conditions.parse(options["rate"], options["canary"], options["stop_above"])
            started = redrive.start(selection, by=by, reason=options["reason"], conditions=conditions, origin=origin)
        except redrive.NotRedrivable as refusal:
            raise CommandError(str(refusal), returncode=2) from None
        if options["detach"]:
            hand_over(started)
        else:
            self._drive(started, by, origin, options)
        started.refresh_from_db()
        self._say_redrive(started, options)
        if started.state in Redrive.HELD:
            raise SystemExit(1)

    def _drive(self, started: Redrive, by: User | None, origin: str, options: dict[str, Any]) -> None:
        show = sys.stderr.isatty() and not options["json"]
        driver = driver_of(started)
        try:
            while (wait := driver.drive(0.5)) is not None:
                self._show(started, show=show)
                time.sleep(wait)
            while options["wait"] and _awaits(started):
                self._show(started, show=show)
                time.sleep(0.5)
        except KeyboardInterrupt:
            started.refresh_from_db()
            if started.state in redrive.SENDS:
                redrive.pause(started, by=by, origin=origin)
                self.stderr.write(f"\n{started} is paused; manage.py redrives --resume {started.pk} goes on.")
            else:
                self.stderr.write(f"\n{started} has sent everything; manage.py redrives tells how it ends.")
        finally:
            driver.publisher.close()
        if show:
            self.stderr.write("")

    def _show(self, started: Redrive, *, show: bool) -> None:
        if not show:
            return
        started.refresh_from_db()
        done = started.sent + started.skipped
        filled = _WIDTH * done // max(started.total, 1)
        bar = "█" * filled + "░" * (_WIDTH - filled)
        words = f"{done:,} of {started.total:,} · {started.succeeded:,} succeeded · {started.died:,} died again"
        self.stderr.write(f"\r{bar} {words} · {started.get_state_display()}  ", ending="")
        self.stderr.flush()

    def _say_redrive(self, started: Redrive, options: dict[str, Any]) -> None:
        facts = {
            name: getattr(started, name) for name in ("state", "why", "total", "sent", "succeeded", "died", "skipped")
        }
        if options["json"]:
            self.say_json({"redrive": started.pk, **facts})
            return
        words = "Sent {sent} of {total}, skipped {skipped}; {succeeded} succeeded and {died} died again so far.".format(
            **facts
        )
        self.stdout.write(f"{started}: {started.get_state_display()}. {words}")
        if started.why:
            self.stderr.write(started.why)


def _looked_at(selection: Selection) -> Iterator[Preflight]:
    letters, last = selection.letters().defer(None).order_by("id"), 0
    while chunk := list(letters.filter(pk__gt=last)[:CHUNK]):
        yield from preflight(chunk)
        last = chunk[-1].pk


def _counted(counts: dict[Verdict, int]) -> str:
    return ", ".join(f"{number} {verdict.label.lower()}" for verdict, number in counts.items())


def _awaits(started: Redrive) -> bool:
    tally(started)
    return started.state in Redrive.ACTIVE  # it may send still: a worker has taken it over
