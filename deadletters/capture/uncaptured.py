"""Tasks whose deaths nobody would capture: a worker that knows one does not start."""

from typing import Any

from celery import Celery
from django.core.exceptions import ImproperlyConfigured
from kombu.utils.imports import symbol_by_name

# Of these names, so that a command need not import the worker to know its Request.
_OURS = {"deadletters.capture.request:DeadLetterRequest", "deadletters.capture.request.DeadLetterRequest"}


def uncaptured(app: Celery) -> list[str]:
    """The names of the tasks whose deaths nobody would see."""
    return sorted(name for name, task in app.tasks.items() if not _captures(task.Request))


def refuse_uncaptured(app: Celery) -> None:
    """Called by a worker as it starts: it knows tasks that no command imports.

    Raises:
        ImproperlyConfigured: it must not start.
    """
    if names := uncaptured(app):
        raise ImproperlyConfigured(
            f"These tasks would die without leaving a dead letter: {', '.join(names)}. Build them on the app's own Task class,"
            " or let the Request of their class inherit from deadletters.capture.request.DeadLetterRequest."
        )


def _captures(request: Any) -> bool:
    if isinstance(request, str) and request in _OURS:
        return True
    return issubclass(symbol_by_name(request), symbol_by_name("deadletters.capture.request:DeadLetterRequest"))
