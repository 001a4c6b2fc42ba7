"""Messages that never became a task: captured with their bytes, and the queue moves on."""

from typing import Any

from celery.exceptions import NotRegistered
from celery.worker.consumer import Consumer
from django.db import close_old_connections

from deadletters.capture import Death, capture
from deadletters.envelope import Envelope
from deadletters.models import Cause, new_death_id
from deadletters.request import queue_of


class DeadLetterConsumer(Consumer):  # type: ignore[misc]  # celery.worker ships no types
    """The worker's consumer; set by `worker_consumer = "deadletters.consumer:DeadLetterConsumer"`."""

    def on_unknown_task(self, body: Any, message: Any, exc: BaseException) -> None:
        """A task that no code here has: an old name, or a deploy that has not come yet."""
        name = str(_header(message, "task") or "")
        self._capture(Cause.UNKNOWN_TASK, message, NotRegistered(name))
        close_old_connections()  # Celery stores its FAILURE from this process
        super().on_unknown_task(body, message, exc)

    def on_invalid_task(self, body: Any, message: Any, exc: BaseException) -> None:
        """A task message with a field that makes no sense."""
        self._capture(Cause.INVALID, message, exc)
        super().on_invalid_task(body, message, exc)

    def on_decode_error(self, message: Any, exc: BaseException) -> None:
        """A body that is not what its content type says."""
        self._capture(Cause.UNDECODABLE, message, exc)
        super().on_decode_error(message, exc)

    def on_unknown_message(self, body: Any, message: Any) -> None:
        """A message of another protocol."""
        self._capture(Cause.UNKNOWN_MESSAGE, message, ValueError("not a Celery task message"))
        super().on_unknown_message(body, message)

    def _capture(self, cause: Cause, message: Any, exception: BaseException) -> None:
        task_id, death_id = _header(message, "id"), new_death_id()
        capture(
            Death(
                task_id=task_id if isinstance(task_id, str) and task_id else f"message:{death_id}",
                task_name=str(_header(message, "task") or ""),
                cause=cause,
                envelope=Envelope.of_message(message, queue_of(self.app, message.delivery_info)),
                exception_type=type(exception).__name__,
                exception_message=str(exception),
                worker=self.hostname,
                death_id=death_id,
            )
        )


def _header(message: Any, name: str) -> Any:
    return message.headers.get(name) if isinstance(message.headers, dict) else None
