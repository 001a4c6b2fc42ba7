"""Messages that never became a task."""

from celery.worker.consumer import Consumer


class DeadLetterConsumer(Consumer):  # type: ignore[misc]  # celery.worker ships no types
    """A consumer that captures what no task was made of."""
