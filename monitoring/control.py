"""What people do to queues, tasks and workers. Each verb is bounded in time, and an act of the audit trail."""

import logging
from collections.abc import Collection
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from celery import current_app
from django.contrib.auth.models import User
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.utils.translation import gettext as _

from deadletters import audit
from deadletters.models import Act
from monitoring.broker import connected
from monitoring.models import PausedQueue
from monitoring.workers import pings

logger = logging.getLogger(__name__)

# Workers answer a command within milliseconds; one that is busy elsewhere does it when it looks up.
REPLY_SECONDS = 1.5


class Refused(Exception):
    """It makes no sense as things are; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """Which workers were told, and which of them confirmed it in time; the others will hear it when they look up."""

    workers: tuple[str, ...]
    confirmed: tuple[str, ...]

    @property
    def late(self) -> tuple[str, ...]:
        """Those that have not confirmed yet."""
        return tuple(name for name in self.workers if name not in self.confirmed)


def pause_queue(name: str, *, by: User, reason: str = "", origin: str = "") -> Told:
    """Let no worker take from the queue any more, until somebody resumes it; what waits, waits. Survives restarts of workers.

    Raises:
        Refused: it is paused already, or nobody consumes it.
        BrokerAway: nobody could be told; nothing has changed.
    """
    consumers = [member.name for member in pings.workers().members if name in member.queues]
    if not consumers:
        raise Refused(_("No worker consumes %s, so there is nothing to pause.") % name)
    try:
        with transaction.atomic():
            row = PausedQueue.objects.create(name=name, by=by.get_username(), reason=reason.strip(), workers=consumers)
    except IntegrityError as twice:
        raise Refused(_("Queue %s is paused already.") % name) from twice
    try:
        told = _tell("cancel_consumer", consumers, queue=name)
    except BaseException:
        row.delete()
        raise
    _record(Act.Verb.QUEUE_PAUSED, name, by, origin, reason)
    return told


def resume_queue(name: str, *, by: User, origin: str = "") -> Told:
    """Let the workers that used to consume the queue do so again, and those that started since and would have.

    Raises:
        Refused: it is not paused.
        BrokerAway: nobody could be told; nothing has changed.
    """
    with transaction.atomic():
        row = PausedQueue.objects.select_for_update().filter(name=name).first()
        if row is None:
            raise Refused(_("Queue %s is not paused.") % name)
        # First: a worker that starts just now is among these or finds no row. One that has ended costs a moment's waiting.
        PausedQueue.objects.filter(name=name).delete()
    try:
        told = _tell("take_queue", row.workers, queue=name)
    except BaseException:
        row.save(force_insert=True)
        raise
    _record(Act.Verb.QUEUE_RESUMED, name, by, origin)
    return told


def revoke(task_id: str, *, by: User, terminate: bool = False, origin: str = "") -> None:
    """Tell all workers to drop a task that has not begun; with `terminate` its process is killed if it has.

    Raises:
        BrokerAway: nobody could be told.
    """
    with connected() as broker:
        current_app.control.revoke(task_id, terminate=terminate, connection=broker)
    _record(Act.Verb.TASK_TERMINATED if terminate else Act.Verb.TASK_REVOKED, task_id, by, origin)
    pings.stale()


def shut_down(worker: str, *, by: User, origin: str = "") -> None:
    """Tell one worker to finish what it runs and then end. What supervises it may start it again.

    Raises:
        Refused: no such worker answers.
        BrokerAway: nobody could be told.
    """
    if worker not in pings.workers().alive:
        raise Refused(_("No worker of this name answers: %s.") % worker)
    with connected() as broker:
        current_app.control.shutdown(destination=[worker], connection=broker)
    _record(Act.Verb.WORKER_STOPPED, worker, by, origin)
    pings.stale()


def teach_commands(**_: Any) -> None:
    """A worker that starts learns our remote commands (a receiver of `worker_init`)."""
    import_module("monitoring.worker_commands")


def keep_paused(*, sender: str, instance: Any, **_: Any) -> None:
    """A worker that starts takes from no paused queue (a receiver of `celeryd_after_setup`)."""
    queues = instance.app.amqp.queues
    try:
        with transaction.atomic():
            for row in PausedQueue.objects.select_for_update().filter(name__in=list(queues.consume_from)):
                queues.deselect([row.name])
                if sender not in row.workers:
                    row.workers = [*row.workers, sender]
                    row.save(update_fields=["workers"])
    except DatabaseError:
        logger.exception("worker.pauses_unknown")  # it consumes; the screen shows that
    connection.close()  # the pool's processes are forked after this


def _tell(command: str, workers: Collection[str], **arguments: Any) -> Told:
    names = sorted(workers)
    replies: list[dict[str, Any]] | None = None
    if names:
        with connected() as broker:
            replies = current_app.control.broadcast(
                command, arguments, destination=names, connection=broker, reply=True, timeout=REPLY_SECONDS, limit=len(names)
            )  # fmt: skip
    pings.stale()
    return Told(workers=tuple(names), confirmed=tuple(sorted(name for reply in replies or () for name in reply)))


def _record(verb: Act.Verb, subject: str, by: User, origin: str, reason: str = "") -> None:
    audit.record(verb, by=by, number=0, reason=reason, origin=origin, subject=subject)
