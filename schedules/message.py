"""What a schedule sends: task, arguments and options, out of the columns of its row. Pure."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext as _

# A schedule's name in each of its messages, where django-celery-results looks for it.
NAME_HEADER = "periodic_task_name"
# One publishing of an occurrence. Two copies of one occurrence carry two of them, a redelivery carries the same again.
COPY_HEADER = "occurrence_copy"
# What django-celery-beat's table calls them, and Celery too.
ROUTING = ("queue", "exchange", "routing_key", "priority")
# By these a worker knows which task to run, and beat which occurrence it was.
RESERVED = frozenset({"id", "task"})


class Unusable(ValueError):
    """Beat cannot use this row. str() says which part of it and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A task with its arguments, and the options of `apply_async`."""

    name: str
    task: str
    args: list[Any]
    kwargs: dict[str, Any]
    options: dict[str, Any]


def compose(row: Any) -> Message:
    """The message of a row (a Schedule, or anything with its columns).

    Raises:
        Unusable: args, kwargs or headers are not what they must be.
    """
    headers = _json(row.headers, "headers", {})
    if taken := RESERVED & headers.keys():
        raise Unusable(refused_headers(taken))
    options = {option: getattr(row, option) for option in ROUTING if getattr(row, option) is not None}
    if expires := row.expires or row.expire_seconds:
        options["expires"] = expires
    return Message(
        name=row.name,
        task=row.task,
        args=_json(row.args, "args", []),
        kwargs=_json(row.kwargs, "kwargs", {}),
        options={**options, "headers": {**headers, NAME_HEADER: row.name}},
    )


def refused_arguments(task: str, problem: TypeError) -> str:
    """What is said when a task does not take what a schedule sends."""
    return _("%(task)s does not take these arguments: %(reason)s") % {"task": task, "reason": problem}


def refused_headers(taken: Iterable[str]) -> str:
    """What is said of headers that are Celery's own."""
    return _("Celery sets the header %s itself.") % ", ".join(sorted(taken))


def storable(reason: str) -> str:
    """The text without what PostgreSQL does not store: NUL and halves of characters, which names in JSON may have."""
    return reason.encode(errors="replace").decode().replace("\0", "?")


def _json(text: str | None, field: str, empty: Any) -> Any:
    if not text or (text in {"[]", "{}"} and text == json.dumps(empty)):
        return type(empty)()
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as problem:
        raise Unusable(_("%(field)s is not JSON: %(reason)s") % {"field": field, "reason": problem}) from None
    if not isinstance(value, type(empty)):
        wanted = _("a JSON array") if isinstance(empty, list) else _("a JSON object")
        raise Unusable(_("%(field)s must be %(wanted)s.") % {"field": field, "wanted": wanted})
    return value
