"""The worker is the one that buries what expired: RabbitMQ would drop it without a word."""

from typing import Any

from celery import signals


def on_before_task_publish(properties: dict[str, Any] | None = None, **_: Any) -> None:
    """Take the broker's own time-to-live off a task message; its `expires` header stays, and the worker looks at that."""
    if properties:
        properties.pop("expiration", None)


def connect() -> None:
    """Listen to what this process publishes."""
    signals.before_task_publish.connect(on_before_task_publish, weak=False, dispatch_uid="deadletters.capture.expiry")
