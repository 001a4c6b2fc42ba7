"""The worker's Request: what each way of dying looks like in the main process, with the message at hand.

Measured on Celery 5.7; `task_failure` alone would miss an expired, rejected or unregistered task and see a hard time limit twice.
"""

import logging
import re
import time
from typing import Any

from billiard.einfo import ExceptionInfo, ExceptionWithTraceback
from celery import states
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
from django.conf import settings
from kombu.exceptions import EncodeError, OperationalError

from deadletters.capture import poison
from deadletters.capture.capture import DATABASE_PAUSE, capture
from deadletters.capture.outcome import ended
from deadletters.capture.record import Death, described
from deadletters.capture.start import Ending, StartingRequest, renew_connection
from deadletters.envelope import REPLAY_HEADER, replay_number
from deadletters.models import Cause

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
    (OperationalError, Cause.PUBLISH_FAILED),
    (poison.PoisonMessage, Cause.POISON),
)
# Celery's line that calls a task's own hook: what the hook raises takes the place of the task's exception.
_HOOK = re.compile(r"celery/app/trace\.py.*\n\s+task\.(on_failure|on_retry)\(")


class DeadLetterRequest(StartingRequest):
    """A request that captures its death before the broker forgets the message."""

    # The death of this request while Celery is telling of it: captured before the acknowledgement, or at the end.
    _pending: Ending | None = None
    _captured = False
    _timed_out = False

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
            self._pending = _ending(cause, exception, exc_info)
            renew_connection()
        try:
            return super().on_failure(exc_info, send_failed_event=send_failed_event, return_ok=return_ok)
        finally:
            self._capture_pending()
            self.close_early_start()
            if isinstance(exception, Reject) and exception.requeue and cause:
                self._store_failure(exception)  # Celery believes that it is in its queue again
            # `self.replace()` ends in an Ignore, too: there the replacement has this id and the replay's number.
            if type(exception) is Ignore and str(exception) != "Replaced by new task":
                self._end_ignored()

    def on_timeout(self, soft: bool, timeout: float) -> None:  # noqa: FBT001
        """Celery 5.7 reports one hard time limit twice: after `on_failure` only the Task's own hooks are left to call."""
        if soft or not self._timed_out:
            super().on_timeout(soft, timeout)
            return
        if not self.task.acks_on_timeout and self.task.acks_late:
            return  # it went back to its queue
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
        renew_connection()
        if expired and not self._already_revoked:
            self._pending = Ending(
                Cause.EXPIRED, TaskRevokedError.__name__, f"it expired at {self.expires:%Y-%m-%d %H:%M:%S %Z}"
            )
        elif settings.DEADLETTERS_KEEP_REVOKED and not self._already_revoked:
            self._pending = Ending(Cause.REVOKED, TaskRevokedError.__name__, f"{reason} by an operator")
        super()._announce_revoked(reason, terminated, signum, expired)
        self._capture_pending()  # where the message was acknowledged before it ran
        self.close_early_start()
        if expired:
            # Celery remembers the id for three hours, and workers tell each other: a replay under the same id would be dropped.
            # Another copy of this very message expires by itself.
            worker_state.revoked.discard(self.id)
        else:
            self._settle(f"its replay was {reason} by an operator", resolved=False)

    def _announce_cancelled(self, emit_retry: bool = True) -> None:  # noqa: FBT001, FBT002
        """A cold shutdown: what was acknowledged early is lost, although Celery's row says RETRY."""
        renew_connection()
        if self.acknowledged:
            self._pending = Ending(Cause.CANCELLED_BY_SHUTDOWN, "", "the worker was told to stop at once while it ran")
            self._capture_pending()
            self.close_early_start()
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
            self._pending = _ending(Cause.WORKER_LOST, exc, exc_info)
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
        if pending is None or self._captured or self._has_succeeded():
            return
        death = self.death(pending)
        try:
            capture(death)
        except Exception as problem:  # noqa: BLE001  (billiard swallows it, and the message would stay with this worker for ever)
            self._keep(death, problem)
        else:
            self._captured = True
            if poison.is_counted(self.task, self._request_dict):
                poison.forget(self.task, self.id)

    def _keep(self, death: Death, problem: Exception) -> None:
        """Neither PostgreSQL nor the spool took the letter: the broker keeps the message if it still has it, else the log keeps the letter."""
        facts = {"task_id": self.id, "task": self.name, "requeued": not self.acknowledged}
        if self.acknowledged:
            logger.critical("dead_letter.lost", extra={**facts, "death": repr(death)}, exc_info=problem)
            return
        logger.error("dead_letter.not_stored", extra=facts, exc_info=problem)
        time.sleep(DATABASE_PAUSE)
        super().reject(requeue=True)

    def _has_succeeded(self) -> bool:
        """A late copy of a message whose task has finished: that the copy died changes nothing."""
        return bool(self.delivery_info["redelivered"] and not self.ignore_result and super()._success_was_stored())

    def _store_failure(self, exception: BaseException) -> None:
        self.task.backend.mark_as_failure(self.id, exception, request=self._context, store_result=self.store_errors)

    def _end_ignored(self) -> None:
        """Ended on purpose. Celery leaves the row as it is, STARTED for ever, and who waits for it waiting."""
        why = "ended on purpose (Ignore)"
        renew_connection()
        try:
            if not self.ignore_result and self.task.backend.get_state(self.id) not in states.READY_STATES:
                self.task.backend.mark_as_revoked(self.id, why, request=self._context)
            self._settle(why, resolved=True)
        except Exception:
            # The message is acknowledged, and the result backend is away: no reason for the worker to go, too.
            logger.exception("task.end_not_stored", extra={"task_id": self.id, "task": self.name})

    def _settle(self, why: str, *, resolved: bool) -> None:
        if REPLAY_HEADER in self._message.headers:
            ended(self.id, replay_number(self._message.headers), why, resolved=resolved)


def _ending(cause: Cause, exception: BaseException, exc_info: ExceptionInfo) -> Ending:
    kind, message = described(exception, exc_info.type)
    traceback = str(exc_info.traceback or "")
    hook = _HOOK.search(traceback)
    return Ending(cause, kind, f"in the task's {hook[1]} hook: {message}" if hook else message, traceback)


def _unwrapped(exc_info: ExceptionInfo) -> BaseException:
    exception: BaseException = exc_info.exception
    return exception.exc if isinstance(exception, ExceptionWithTraceback) else exception
