"""Messages that never became a task: captured with their bytes, and the queue moves on."""

import logging
import time
from collections.abc import Callable
from threading import Thread
from typing import Any

from celery.exceptions import BackendError, InvalidTaskError, NotRegistered
from celery.worker import state as worker_state
from celery.worker.consumer import Consumer
from django.db import Error, close_old_connections, connections

from deadletters.capture import collect, heartbeats
from deadletters.capture.capture import DATABASE_PAUSE, capture
from deadletters.capture.nonsense import nonsense
from deadletters.capture.properties import UNREADABLE
from deadletters.capture.record import Death, described
from deadletters.capture.start import StartingRequest, queue_of
from deadletters.capture.transport import abandon
from deadletters.capture.uncaptured import refuse_uncaptured
from deadletters.envelope import Envelope
from deadletters.models import NO_TASK_ID, Cause, new_death_id
from deadletters.secrets.redact_text import MASK

logger = logging.getLogger(__name__)

# Seconds for what a cold shutdown has to write. What it cannot write in this time the other workers do, once this one is silent.
_CANCELLING = 15


class DeadLetterConsumer(Consumer):  # type: ignore[misc]  # celery.worker ships no types
    """The worker's consumer; set by `worker_consumer = "deadletters.capture.consumer:DeadLetterConsumer"`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        refuse_uncaptured(self.app)
        StartingRequest.is_green = self.pool.is_green

    def connect(self) -> Any:
        """From its first message on the worker gives signs of life, and says which messages it holds."""
        connection = super().connect()
        heartbeats.start(self.app, self.hostname, connection.default_channel)
        return connection

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Any], Any]:
        """Celery's handler, with a guard: a body like `5` or `{}` raises past Celery's own, and would end one worker after another."""
        handle = super().create_task_handler(*args, **kwargs)

        def guarded(message: Any) -> Any:
            try:
                if collect.is_given_up(message):
                    return self._collect(message)
                if _header(message, "task") is not None and (why := nonsense(message.headers, message.properties)):
                    return self.on_invalid_task(None, message, InvalidTaskError(why))
                return handle(message)
            except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError) as problem:
                logger.exception("message.malformed")
                if self._capture(Cause.INVALID, message, problem) and not message.acknowledged:
                    message.reject_log_error(logger, self.connection_errors)
            except (Error, BackendError):
                # Celery had a result to write for what was expired or revoked. PostgreSQL's absence is not the message's fault.
                logger.exception("message.not_handled", extra={"requeued": not message.acknowledged})
                if not message.acknowledged:
                    time.sleep(DATABASE_PAUSE)
                    message.requeue()

        return guarded

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """The connection to the broker was lost: what runs goes on and is settled through the next one."""
        running = {request._message.delivery_tag for request in tuple(worker_state.active_requests)}
        abandon(getattr(self.connection._connection, "channels", None) or (), running)
        super().on_connection_error_after_connected(exc)

    def cancel_active_requests(self) -> None:
        """A cold shutdown ends what runs, in a thread of its own.

        Celery calls this in a signal handler. The thread that it interrupted may be writing to PostgreSQL, and would wait for itself: a
        connection's lock is not re-entrant. Another thread has a connection of its own.
        """
        thread = Thread(target=self._cancel_active_requests, daemon=True)
        thread.start()
        thread.join(_CANCELLING)
        if thread.is_alive():
            logger.error("worker.tasks_not_cancelled", extra={"seconds": _CANCELLING})

    def _cancel_active_requests(self) -> None:
        try:
            super().cancel_active_requests()
        finally:
            connections.close_all()

    # What follows logs, in Celery, the message's body, where a secret may have a position and no name: a mask is logged in its place.

    def on_unknown_task(self, body: Any, message: Any, exc: BaseException) -> None:  # noqa: ARG002
        """A task that no code here has: an old name, or a deploy that has not come yet."""
        if self._capture(Cause.UNKNOWN_TASK, message, NotRegistered(str(_header(message, "task") or ""))):
            close_old_connections()  # Celery stores its FAILURE from this process
            try:
                super().on_unknown_task(MASK, message, exc)
            except (Error, BackendError):
                logger.exception("result.not_stored", extra={"task_id": _header(message, "id")})
                message.reject_log_error(logger, self.connection_errors)

    def on_invalid_task(self, body: Any, message: Any, exc: BaseException) -> None:  # noqa: ARG002
        """A task message with a field that makes no sense."""
        if self._capture(Cause.INVALID, message, exc):
            super().on_invalid_task(MASK, message, exc)

    def on_decode_error(self, message: Any, exc: BaseException) -> None:
        """A body that is not what its content type says."""
        if self._capture(Cause.UNDECODABLE, message, exc):
            logger.error("message.undecodable", extra={"bytes": len(message.body or b"")}, exc_info=exc)
            message.ack_log_error(logger, self.connection_errors)

    def on_unknown_message(self, body: Any, message: Any) -> None:  # noqa: ARG002
        """A message of another protocol."""
        why = "its properties cannot be read" if _header(message, UNREADABLE) else "not a Celery task message"
        if self._capture(Cause.UNKNOWN_MESSAGE, message, ValueError(why)):
            super().on_unknown_message(MASK, message)

    def _collect(self, message: Any) -> None:
        death = collect.death(message, self.hostname)
        if death is None or self._stored(message, death):
            message.ack_log_error(logger, self.connection_errors)

    def _capture(self, cause: Cause, message: Any, exception: BaseException) -> bool:
        return self._stored(message, self._death(cause, message, exception))

    def _stored(self, message: Any, death: Death) -> bool:
        """Whether it is stored or spooled. If neither, the message goes back to its queue, after a pause: it comes again at once."""
        try:
            capture(death)
        except Exception:
            logger.exception("dead_letter.not_stored", extra={"requeued": True})
            time.sleep(DATABASE_PAUSE)
            message.requeue()
            return False
        return True

    def _death(self, cause: Cause, message: Any, exception: BaseException) -> Death:
        task_id, death_id = _header(message, "id"), new_death_id()
        kind, words = described(exception)
        return Death(
            task_id=task_id if isinstance(task_id, str) and task_id else f"{NO_TASK_ID}{death_id}",
            task_name=str(_header(message, "task") or ""),
            cause=cause,
            envelope=Envelope.of_message(message, queue_of(self.app, message.delivery_info)),
            exception_type=kind,
            exception_message=words,
            worker=self.hostname,
            death_id=death_id,
        )


def _header(message: Any, name: str) -> Any:
    return message.headers.get(name) if isinstance(message.headers, dict) else None
