"""The worker's Request: what each way of dying looks like in the main process, with the message at hand.

Measured on Celery 5.7; `task_failure` alone would miss an expired, rejected or unregistered task and see a hard time limit twice.
"""

import logging
import time
from datetime import UTC, datetime
from typing import Any, NamedTuple

from billiard.einfo import ExceptionInfo, ExceptionWithTraceback
from celery import Celery
from celery.exceptions import (
    Ignore,
    MaxRetriesExceededError,
    Reject,
    Retry,
    SoftTimeLimitExceeded,
    TaskRevokedError,
    Terminated,
    TimeLimitExceeded,
    WorkerLostError,
)
from celery.worker import state as worker_state
from celery.worker.request import Request
from django.db import close_old_connections, connection
from kombu.exceptions import EncodeError, OperationalError

from deadletters.capture import DATABASE_PAUSE, Death, capture, described
from deadletters.envelope import REPLAY_HEADER, Envelope, replay_number
from deadletters.models import Cause
from deadletters.outcome import ended
from deadletters.spool import SpoolError

logger = logging.getLogger(__name__)


class TaskMemoryError(Exception):
    """A task's MemoryError. Celery 5.7 re-raises the original in the main process, which ends the whole worker."""


# The exceptions that say more than "it raised"; everything else is Cause.EXCEPTION.
_CAUSES: tuple[tuple[type[BaseException], Cause], ...] = (
    (SoftTimeLimitExceeded, Cause.SOFT_TIME_LIMIT),
    (TimeLimitExceeded, Cause.HARD_TIME_LIMIT),
    (MaxRetriesExceededError, Cause.RETRIES_EXHAUSTED),
    (TaskMemoryError, Cause.MEMORY_ERROR),
    (EncodeError, Cause.RESULT_ENCODE),
)


def queue_of(app: Celery, delivery_info: dict[str, Any] | None) -> str:
    """The queue that a message came from: the one bound to its exchange and routing key, else the routing key itself."""
    delivery = delivery_info or {}
    exchange, key = delivery.get("exchange") or "", delivery.get("routing_key") or ""
    for name, queue in app.amqp.queues.items():
        if queue.routing_key == key and (queue.exchange.name == exchange if queue.exchange else not exchange):
            return str(name)
    return str(key)


class _Ending(NamedTuple):
    """A death, until it is captured."""

    cause: Cause
    exception_type: str
    message: str
    traceback: str = ""


class DeadLetterRequest(Request):  # type: ignore[misc]  # celery.worker ships no types
    """A request that captures its death before the broker forgets the message."""

    # The death of this request while Celery is telling of it: captured before the acknowledgement, or at the end.
    _pending: _Ending | None = None
    _captured = False
    _timed_out = False

    def __init__(self, message: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(message, *args, **kwargs)
        self._received = time.time()

    # --- How Celery tells of an end ---------------------------------------------------------------------------------

    def on_failure(self, exc_info: ExceptionInfo, send_failed_event: bool = True, return_ok: bool = False) -> Any:  # noqa: FBT001, FBT002
        """Classify the end, let Celery do its part, and capture it if it is a death."""
        exception = _unwrapped(exc_info)
        if isinstance(exception, MemoryError):
            exc_info.exception = exception = TaskMemoryError(
                str(exception) or "the task could not get the memory it asked for"
            )
        self._timed_out = isinstance(exception, TimeLimitExceeded)
        if cause := self._cause(exception):
            self._pending = _Ending(cause, *described(exception, exc_info.type), str(exc_info.traceback or ""))
            _renew_connection()
        try:
            return super().on_failure(exc_info, send_failed_event=send_failed_event, return_ok=return_ok)
        finally:
            self._capture_pending()
            # `self.replace()` ends in an Ignore, too: there the replacement has this id and the replay's number.
            if type(exception) is Ignore and str(exception) != "Replaced by new task":
                self._settle("ended on purpose (Ignore)", resolved=True)

    def on_timeout(self, soft: bool, timeout: float) -> None:  # noqa: FBT001
        """Celery 5.7 reports one hard time limit twice: after `on_failure` only the Task's own hooks are left to call."""
        if soft or not self._timed_out:
            super().on_timeout(soft, timeout)
            return
        exception = TimeLimitExceeded(timeout)
        try:
            self.task.on_failure(exception, self.id, self.args, self.kwargs, None)
            self.task.after_return("FAILURE", exception, self.id, self.args, self.kwargs, None)
        except Exception:
            logger.exception("task.on_failure_hook_raised", extra={"task_id": self.id, "task": self.name})

    def acknowledge(self) -> None:
        """With late acknowledgement this is the last moment at which the broker still has the message."""
        if not self.acknowledged:
            self._capture_pending()
        super().acknowledge()

    def reject(self, requeue: bool = False) -> None:  # noqa: FBT001, FBT002
        """A rejected message is gone, a requeued one is not dead."""
        if not self.acknowledged and not requeue:
            self._capture_pending()
        super().reject(requeue=requeue)

    def _announce_revoked(self, reason: str, terminated: bool, signum: Any, expired: bool) -> None:  # noqa: FBT001
        """Expired is a death; revoked by an operator is a deliberate end."""
        _renew_connection()
        if expired and not self._already_revoked:
            self._pending = _Ending(
                Cause.EXPIRED, TaskRevokedError.__name__, f"it expired at {self.expires:%Y-%m-%d %H:%M:%S %Z}"
            )
        super()._announce_revoked(reason, terminated, signum, expired)
        if expired:
            # Celery remembers the id for three hours, and workers tell each other: a replay under the same id would be dropped.
            # Another copy of this very message expires by itself.
            worker_state.revoked.discard(self.id)
        else:
            self._settle(f"its replay was {reason} by an operator", resolved=False)

    def _announce_cancelled(self, emit_retry: bool = True) -> None:  # noqa: FBT001, FBT002
        """A cold shutdown: what was acknowledged early is lost, although Celery's row says RETRY."""
        _renew_connection()
        if self.acknowledged:
            self._pending = _Ending(Cause.CANCELLED_BY_SHUTDOWN, "", "the worker was told to stop at once while it ran")
            self._capture_pending()
        super()._announce_cancelled(emit_retry=emit_retry)

    def _success_was_stored(self) -> Any:
        """Finished, then lost its process: no death, and a replay has succeeded although its process could not say so."""
        if meta := super()._success_was_stored():
            self._pending = None
            self._settle("its result was stored before its process was lost", resolved=True)
        return meta

    def _retry_worker_lost(self, exc: BaseException, exc_info: ExceptionInfo) -> bool:
        """A lost process is retried by Celery; when that retry cannot be sent it is a death after all."""
        retried = bool(super()._retry_worker_lost(exc, exc_info))
        if not retried and not self._will_be_requeued():
            self._pending = _Ending(Cause.WORKER_LOST, *described(exc, exc_info.type), str(exc_info.traceback or ""))
        return retried

    # --- What it means ----------------------------------------------------------------------------------------------

    def _cause(self, exception: BaseException) -> Cause | None:
        """The cause of death, or None when the message lives on or was ended on purpose."""
        match exception:
            case Reject():
                return self._cause_of_reject(exception)
            case Retry() | Ignore() | Terminated():
                return None
            case TimeLimitExceeded() if self.task.acks_late and not self.acknowledged and not self.task.acks_on_timeout:
                return None
            case SystemExit() | KeyboardInterrupt() if self._already_cancelled or self._already_revoked:
                return None
            # Celery turns an exit into a lost worker.
            case WorkerLostError() | SystemExit() | KeyboardInterrupt():
                return None if self._will_be_retried() or self._will_be_requeued() else Cause.WORKER_LOST
        return next((cause for kind, cause in _CAUSES if isinstance(exception, kind)), Cause.EXCEPTION)

    def _cause_of_reject(self, reject: Reject) -> Cause | None:
        if reject.requeue and self.task.acks_late and not self.acknowledged:
            return None
        # `self.retry()` that cannot publish turns into a Reject with the broker's error as its reason.
        return Cause.PUBLISH_FAILED if isinstance(reject.reason, OperationalError) else Cause.REJECTED

    def _will_be_retried(self) -> bool:
        limit = self.task.max_retries
        return bool(self.task.retry_on_worker_lost and (limit is None or self._context.retries < limit))

    def _will_be_requeued(self) -> bool:
        # Celery gives up on a message whose retries after lost workers are used up.
        spent = self.task.retry_on_worker_lost and not self._will_be_retried()
        return bool(self.task.acks_late and not self.acknowledged and self.task.reject_on_worker_lost and not spent)

    # --- What becomes of it -----------------------------------------------------------------------------------------

    def _capture_pending(self) -> None:
        pending, self._pending = self._pending, None
        if pending is None or self._captured:
            return
        death = self._death(pending)
        try:
            capture(death)
        except SpoolError as problem:
            self._keep(death, problem)
        else:
            self._captured = True

    def _death(self, ending: _Ending) -> Death:
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

    def _keep(self, death: Death, problem: SpoolError) -> None:
        """Neither PostgreSQL nor the spool took the letter: the broker keeps the message if it still has it, else the log keeps the letter."""
        facts = {"task_id": self.id, "task": self.name, "requeued": not self.acknowledged}
        if self.acknowledged:
            logger.critical("dead_letter.lost", extra={**facts, "death": repr(death)}, exc_info=problem)
            return
        logger.error("dead_letter.not_stored", extra=facts, exc_info=problem)
        time.sleep(DATABASE_PAUSE)
        super().reject(requeue=True)

    def _settle(self, why: str, *, resolved: bool) -> None:
        if REPLAY_HEADER in self._message.headers:
            ended(self.id, replay_number(self._message.headers), why, resolved=resolved)


def _unwrapped(exc_info: ExceptionInfo) -> BaseException:
    exception: BaseException = exc_info.exception
    return exception.exc if isinstance(exception, ExceptionWithTraceback) else exception


def _renew_connection() -> None:
    # The main process has no task_prerun that would: after a restart of PostgreSQL its next write fails otherwise.
    if not connection.in_atomic_block:
        close_old_connections()
