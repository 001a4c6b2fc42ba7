"""Settle what a crash left of a replay, by looking: was it sent, has it begun, how did it end. Any number of sweeps may run at once."""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from celery import current_app, states
from django.db.models import QuerySet
from django.utils import timezone

from deadletters.capture.capture import capture
from deadletters.capture.copies import forget_old_copies
from deadletters.capture.outcome import ended, found_successful, succeeded
from deadletters.capture.record import Death, described
from deadletters.envelope import NoEnvelope
from deadletters.models import Cause, DeadLetter, State
from deadletters.replay.claim import fail_taken_back, message
from deadletters.replay.replay import NotSent, send

logger = logging.getLogger(__name__)

# Younger ones are at work: a claim is sent within milliseconds, an outcome is written within seconds.
PATIENCE = timedelta(seconds=60)
# Open letters are looked at for this long after their death, the newest first; a copy that is still on its way ends within it.
RECENT, RECENT_LIMIT = timedelta(days=1), 10_000
_BATCH = 500

_TABLE = DeadLetter._meta.db_table
# A lease: whoever gets a row here sends it, and another sweep leaves it alone until the lease is over.
_LEASE = f"""
    UPDATE {_TABLE} SET claimed_at = now()
     WHERE id IN (SELECT id FROM {_TABLE}
                   WHERE state = 'replaying' AND sent_at IS NULL AND started_copy IS NULL AND claimed_at < %(before)s
                   ORDER BY claimed_at LIMIT {_BATCH} FOR UPDATE SKIP LOCKED)
    RETURNING *
"""  # noqa: S608


@dataclass(slots=True)
class Swept:
    """How many letters were sent, found sent, settled by their result, or failed as before once more."""

    sent: int = 0
    found_sent: int = 0
    settled: int = 0
    failed_again: int = 0


def sweep(patience: timedelta = PATIENCE) -> Swept:
    """Look at every letter that should be further by now. A broker that is away opens its letters again."""
    swept, before = Swept(), timezone.now() - patience
    swept.found_sent = _note_begun(before)
    swept.sent = _send_unsent(before)
    swept.settled = _settle_replaying(before) + _settle_open(before)
    swept.failed_again = _fail_again(before)
    forget_old_copies()
    if any(asdict(swept).values()):
        logger.info("dead_letters.swept", extra=asdict(swept))
    return swept


def _note_begun(before: datetime) -> int:
    """A worker has begun it, so it was sent."""
    begun = DeadLetter.objects.filter(state=State.REPLAYING, sent_at=None, claimed_at__lt=before)
    return begun.exclude(started_copy=None).update(sent_at=timezone.now())


def _send_unsent(before: datetime) -> int:
    """Claimed, and nobody knows whether it was sent: send a copy. The worker runs one of the two."""
    sent = 0
    while letters := list(DeadLetter.objects.raw(_LEASE, {"before": before})):
        for letter in letters:
            try:
                send(letter, by=None)
            except NotSent:
                logger.warning("dead_letter.not_sent", extra={"task_id": letter.task_id}, exc_info=True)
            else:
                sent += 1
    return sent


def _settle_replaying(before: datetime) -> int:
    """The replay has ended, but whoever should have noted it could not."""
    settled = 0
    replaying = DeadLetter.objects.filter(state=State.REPLAYING, claimed_at__lt=before)
    for letters in _batches(replaying):
        ready = _ready(letters)
        for letter in letters:
            status, at = ready.get(letter.task_id, ("", None))
            # A result from before the claim is an older attempt's.
            if at is not None and letter.claimed_at is not None and letter.claimed_at < at < before:
                settled += _settle(letter, status, at)
    return settled


def _settle(letter: DeadLetter, status: str, at: datetime) -> bool:
    if status == states.SUCCESS:
        return succeeded(letter.task_id, letter.replay_number)
    if status == states.REVOKED:
        return ended(letter.task_id, letter.replay_number, "its replay was revoked", resolved=False)
    meta = current_app.backend.get_task_meta(letter.task_id, cache=False)
    kind, words = described(meta["result"]) if isinstance(meta["result"], Exception) else ("", str(meta["result"]))
    try:
        envelope = message(letter)
    except NoEnvelope:
        # A death is stored with its message, over the one that the letter has: that one may be readable again tomorrow.
        why = f"its replay died ({kind or status}) while its message could not be had"
        return ended(letter.task_id, letter.replay_number, why, resolved=False)
    capture(
        Death(
            task_id=letter.task_id,
            task_name=letter.task_name,
            cause=Cause.EXCEPTION,
            envelope=envelope,
            exception_type=kind,
            exception_message=words,
            traceback=meta.get("traceback") or "",
            worker=meta.get("worker") or "",
            died_at=at,
        )
    )
    return True


def _settle_open(before: datetime) -> int:
    """Open letters whose task has succeeded meanwhile: a copy of the message lived on."""
    settled = 0
    recent = DeadLetter.objects.open().filter(died_at__range=(timezone.now() - RECENT, before))
    for letters in _batches(recent.order_by("-died_at", "-id"), RECENT_LIMIT):
        ready = _ready(letters)
        settled += sum(
            found_successful(letter.task_id, letter.replay_number)
            for letter in letters
            if ready.get(letter.task_id, ("", None))[0] == states.SUCCESS
        )
    return settled


def _fail_again(before: datetime) -> int:
    """Taken back or discarded, but a crash kept the failure from being written again: whoever waits would wait for ever."""
    given_up = DeadLetter.objects.filter(state__in=(State.OPEN, State.DISCARDED))
    unwritten = given_up.filter(claimed_at__lt=before, sent_at=None, started_copy=None)
    return sum(fail_taken_back(letter) for letters in _batches(unwritten) for letter in letters)


def _batches(letters: QuerySet[DeadLetter], limit: int | None = None) -> Iterator[list[DeadLetter]]:
    """Without their bodies, which only a few of them need."""
    rows = letters.defer("body", "headers", "properties", "sealed", "traceback")[:limit].iterator(chunk_size=_BATCH)
    while batch := list(islice(rows, _BATCH)):
        yield batch


def _ready(letters: Iterable[DeadLetter]) -> dict[str, tuple[str, datetime]]:
    """{task id: (Celery's state, when)} of those whose result is final."""
    backend: Any = current_app.backend
    ids = [letter.task_id for letter in letters]
    return dict(backend.ready(ids)) if hasattr(backend, "ready") else {}
