"""What a worker leaves behind that was killed as a whole: nobody there can tell of it, so the living do.

What it had acknowledged becomes dead letters; what the broker still has is run again: RabbitMQ sees to that by itself, on Redis
the messages that it held are given back here. Every living worker looks; any number may look at once.
"""

import logging
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from celery import Celery, states
from celery.exceptions import WorkerLostError

from deadletters import workers
from deadletters.capture import ledger, poison, unacked
from deadletters.capture.capture import Outcome, capture
from deadletters.capture.record import Death
from deadletters.capture.repair import repair
from deadletters.envelope import clean
from deadletters.models import Cause
from deadletters.secrets.seal import CannotOpen
from deadletters.workers import EarlyStart

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reaped:
    """Names of the workers that were found dead, how many letters were made, how many messages went back to their queues."""

    workers: tuple[str, ...]
    letters: int
    restored: int


def reap(app: Celery, silence: timedelta) -> Reaped:
    """Bury the workers that neither PostgreSQL nor Redis has heard of for `silence`.

    Raises:
        django.db.DatabaseError, OSError, kombu.exceptions.OperationalError: a server is away; nothing is half done.
    """
    with unacked.channel_of(app) as channel:
        silent = workers.silent(silence)
        dead = {
            worker_id: name
            for worker_id, name in silent.items()
            if not (channel and unacked.is_signed(channel, worker_id)) and workers.claim(worker_id, silence)
        }
        letters = 0
        for worker_id, name in list(dead.items()):
            try:
                letters += _bury(app, worker_id)
            except CannotOpen as problem:
                del dead[worker_id]  # what it left waits until the key is back
                logger.error("worker.not_buried", extra={"worker": name, "reason": str(problem)})
        restored = _restore(channel, silence) if channel else 0
        for worker_id, name in dead.items():
            workers.forget(worker_id, silence)
            logger.warning("worker.lost", extra={"worker": name})
    poison.expire()
    if letters or restored:
        logger.warning("worker.reaped", extra={"letters": letters, "restored": restored})
    return Reaped(workers=tuple(sorted(dead.values())), letters=letters, restored=restored)


def _restore(channel: Any, silence: timedelta) -> int:
    living: set[UUID] = set()

    def is_dead(owner: UUID) -> bool:
        # Also one that PostgreSQL never heard of: it was away when that worker came and went.
        if not living:
            living.update(workers.alive(silence))
        return owner not in living and not unacked.is_signed(channel, owner)

    return unacked.restore(channel, is_dead)


def _bury(app: Celery, worker_id: UUID) -> int:
    """Letters for what this worker ran after the acknowledgement; returns how many are new."""
    made = 0
    for entry in EarlyStart.objects.filter(worker_id=worker_id).iterator():
        death = _death(app, ledger.unpack(bytes(entry.record)))
        if death:
            is_new = capture(death) != Outcome.DUPLICATE
            made += is_new
            # Also what another reaper has stored: it may have been killed before it could tell.
            is_untold = is_new and death.cause == Cause.WORKER_LOST
            repair(clean(death.task_id, 255), death.replay_number, death.envelope, is_untold=is_untold)
        entry.delete()
    return made


def _death(app: Celery, started: Death) -> Death | None:
    """How the task ended, or None when it is not dead: its process may have outlived the worker, and told the result backend."""
    meta: dict[str, Any] = app.backend.get_task_meta(started.task_id, cache=False) or {}
    done = meta.get("date_done")
    moment = datetime.fromisoformat(done) if isinstance(done, str) else done
    since = moment and started.started_at and _aware(moment) >= started.started_at
    match meta.get("status") if since else None:
        case states.SUCCESS | states.RETRY | states.REVOKED:
            return None
        case states.FAILURE:
            result = meta.get("result")
            return _dying(
                started, Cause.EXCEPTION, type(result).__name__, str(result), traceback=str(meta.get("traceback") or "")
            )
    return _dying(
        started,
        Cause.WORKER_LOST,
        WorkerLostError.__name__,
        "Its whole worker was lost while it ran, after the message had been acknowledged.",
    )


def _dying(started: Death, cause: Cause, kind: str, message: str, traceback: str = "") -> Death:
    return replace(
        started,
        cause=cause,
        exception_type=kind,
        exception_message=message,
        traceback=traceback,
        died_at=datetime.now(UTC),
    )


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
