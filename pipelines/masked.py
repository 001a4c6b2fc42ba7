"""What a result's row tells people, without secrets: the texts of its arguments, and what its task failed of."""

from typing import Any

from celery.backends.base import get_current_task
from celery.utils.saferepr import saferepr

from deadletters.secrets.redact import called_for_each, redactor
from deadletters.secrets.redact_text import hide

_LENGTH = 1024  # Celery's own limit


def arguments(request: Any) -> tuple[Any, Any]:
    """(args, kwargs) as texts. The sender masks by names; here, by the task's own rule: who sends by name may not know the task."""
    name = str(getattr(request, "task", None) or "")
    if any(redactor().rule(called_for_each(name, getattr(request, "kwargs", None)) or name)):
        args, kwargs = redactor().arguments(request.task, request.args or [], request.kwargs or {})
        return saferepr(tuple(args), _LENGTH), saferepr(kwargs, _LENGTH)
    args, kwargs = (
        getattr(request, f"{name}repr", None) or getattr(request, name, None) for name in ("args", "kwargs")
    )
    return args, kwargs


def failure(request: Any, result: dict[str, Any], traceback: Any) -> tuple[dict[str, Any], str | None]:
    """(result, traceback): they, and whoever waits for the result, read it here."""
    mask, found = redactor(), set[str]()
    # What stands behind a task in a chain is given its failure: then the one that runs here has the arguments.
    for one in filter(None, (request, getattr(get_current_task(), "request", None))):
        # Celery's request for a task that nobody knows has neither.
        called = [getattr(one, name, None) for name in ("task", "args", "kwargs")]
        mask.arguments(str(called[0] or ""), called[1] or [], called[2] or {}, found)
    said = {name: _without(value, found) for name, value in mask.value(result).items()}
    return said, hide(mask.text(str(traceback)), found) if traceback else None


def _without(value: Any, secrets: set[str]) -> Any:
    if isinstance(value, (list, tuple)):
        return [_without(item, secrets) for item in value]
    if isinstance(value, dict):
        return {_without(name, secrets): _without(item, secrets) for name, item in value.items()}
    return hide(value, secrets) if isinstance(value, str) else value
