"""The worker's Request before its task runs: whether it may, and what is noted in case its worker is lost."""

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from billiard.einfo import ExceptionInfo
from celery import Celery
from celery.exceptions import InvalidTaskError
from celery.worker import state as worker_state
from celery.worker.request import Request
from django.conf import settings
from django.db import Error, OperationalError, close_old_connections, connection

from deadletters.capture import breaker, heartbeats, ledger, poison
from deadletters.capture.record import Death
from deadletters.envelope import REPLAY_HEADER, Envelope
from deadletters.models import Cause

logger = logging.getLogger(__name__)

# A worker keeps a message with an `eta` in its memory until then. Nobody means to wait for longer than this.
_FAR = timedelta(days=10 * 365)


def queue_of(app: Celery, delivery_info: dict[str, Any] | None) -> str:
    """The queue that a message came from: the one bound to its exchange and routing key, else the routing key itself."""
    delivery = delivery_info or {}
    exchange, key = delivery.get("exchange") or "", delivery.get("routing_key") or ""
    for name, queue in app.amqp.queues.items():
        if queue.routing_key == key and (queue.exchange.name == exchange if queue.exchange else not exchange):
            return str(name)
    return str(key)


class Ending(NamedTuple):
    """A death, until it is captured."""

    cause: Cause
    exception_type: str
    message: str
    traceback: str = ""


def _every_end(celery_does: Callable[..., Any]) -> Callable[..., Any]:
    def on_success(self: Any, end: Any, **kwargs: Any) -> Any:
        try:
            if isinstance(end, ExceptionInfo):
                # A task that exits in a pool without processes (solo, threads, gevent). Celery unpacks it as a value, which raises,
                # and the message would be nobody's.
                return self.on_failure(end)
            return celery_does(self, end, **kwargs)
        finally:
            self.close_early_start()
            if self.is_green:
                connection.close()  # it is this greenlet's own, which ends: with 100 tasks PostgreSQL would be out of connections

    return on_success


class StartingRequest(Request):  # type: ignore[misc]  # celery.worker ships no types
    """A request that is begun no more often than it may be, and is remembered while the broker does not have it."""

    # The key of its ledger entry while it runs after its acknowledgement.
    _early_start: int | None = None
    _is_counted = False
    # Whether each task runs in a greenlet of its own; the consumer knows.
    is_green = False

    def __init__(self, message: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(message, *args, **kwargs)
        self._received = time.time()
        if self.eta and self.eta > datetime.now(UTC) + _FAR:
            raise InvalidTaskError(f"its eta {self.eta:%Y-%m-%d} is too far away: a worker would hold it until then")

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Celery makes a class of its own below this one for each task, with an `on_success` that calls no method of ours."""
        super().__init_subclass__(**kwargs)
        if "on_success" in vars(cls):
            cls.on_success = _every_end(cls.on_success)

    def revoked(self) -> bool:
        """Whether it must not run: Celery's reasons, or it was begun often enough."""
        if settings.DEADLETTERS_KEEP_REVOKED and REPLAY_HEADER in self._message.headers:
            # Workers remember the id for three hours. To stop a replay of a letter, discard the letter.
            worker_state.revoked.discard(self.id)
        return bool(super().revoked()) or self._is_poison()

    def on_accepted(self, pid: int, time_accepted: float) -> None:
        """A process has it. With early acknowledgement the broker forgets it now: the ledger remembers it first."""
        if not self.task.acks_late and not self.acknowledged and (worker_id := heartbeats.worker_id()):
            # When it began, not when this loop got to it: what ends sooner must not seem to have ended before it started.
            self.time_start = time.time() - (time.monotonic() - time_accepted)
            self._early_start = ledger.open_entry(worker_id, self.death(Ending(Cause.WORKER_LOST, "", "")))
        super().on_accepted(pid, time_accepted)

    def close_early_start(self) -> None:
        """It has ended, and its end is told elsewhere."""
        key, self._early_start = self._early_start, None
        if key is not None:
            ledger.close_entry(key)

    def _is_poison(self) -> bool:
        """Whether this message was begun so often already that it must not take the next worker down; if so it is buried."""
        if not self.delivery_info["redelivered"] or self._is_counted:
            return False
        limit = poison.limit_of(self.task)
        try:
            starts = self._begun(limit)
        except Error as problem:
            facts = {"task_id": self.id, "task": self.name, "reason": str(problem)}
            logger.warning("task.starts_unknown", extra=facts)
            return limit == 1 and self._put_back()
        self._is_counted = True
        self._request_dict["begun"] = starts
        if starts < limit:
            return False
        if self._success_was_stored():
            # What was lost is its acknowledgement.
            logger.warning("task.had_succeeded", extra={"task_id": self.id, "task": self.name})
            worker_state.task_ready(self)
            self.acknowledge()
            return True
        self._bury(poison.PoisonMessage(f"begun {starts} times, and each time its process or its worker was lost"))
        return True

    def _begun(self, limit: int) -> int:
        if breaker.is_away():
            raise OperationalError("PostgreSQL did not answer a moment ago")
        renew_connection()
        attempt = poison.attempt_of(self._message.headers, self._request_dict.get("retries"))
        return poison.begun(self.id, attempt, limit)

    def _put_back(self) -> bool:
        """Back to its queue, after a pause: it comes again at once."""
        time.sleep(poison.PAUSE)
        worker_state.task_ready(self)
        self.reject(requeue=True)
        return True

    def _bury(self, exception: Exception) -> None:
        try:
            raise exception
        except type(exception):
            self.on_failure(ExceptionInfo())
        self.acknowledge()

    def death(self, ending: Ending) -> Death:
        """This ending, with all that is known of the message."""
        return Death(
            task_id=self.id,
            task_name=self._type,
            cause=ending.cause,
            envelope=Envelope.of_message(self._message, queue_of(self._app, self._message.delivery_info)),
            exception_type=ending.exception_type,
            exception_message=ending.message,
            traceback=ending.traceback,
            worker=self._hostname,
            received_at=datetime.fromtimestamp(self._received, UTC),
            started_at=datetime.fromtimestamp(self.time_start, UTC) if self.time_start else None,
        )


def renew_connection() -> None:
    """The main process has no `task_prerun` that would: after a restart of PostgreSQL its next write fails otherwise."""
    if not connection.in_atomic_block:
        close_old_connections()
