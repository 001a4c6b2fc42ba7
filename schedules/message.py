"""What a schedule sends: task, arguments and options, out of the columns of its row. Pure."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from schedules.reasons import reason, words

# A schedule's name in each of its messages, where django-celery-results looks for it.
NAME_HEADER = "periodic_task_name"
# One publishing of an occurrence. Two copies of one occurrence carry two of them, a redelivery carries the same again.
COPY_HEADER = "occurrence_copy"
# What django-celery-beat's table calls them, and Celery too.
ROUTING = ("queue", "exchange", "routing_key", "priority")
# By these a worker knows which task to run, and beat which occurrence it was.
RESERVED = frozenset({"id", "task"})


class Unusable(ValueError):
    """Beat cannot use this row. str() says which part of it and why, in the language that is active; `why` is what is written down."""

    def __init__(self, code: str, **facts: str | float) -> None:
        super().__init__(code, facts)
        self.why = [reason(code, **facts)]

    def __str__(self) -> str:
        return words(self.why)


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
        raise refused_headers(taken)
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


def refused_arguments(task: str, problem: TypeError) -> Unusable:
    """What is said when a task does not take what a schedule sends."""
    return Unusable("arguments", task=task, text=str(problem))


def refused_headers(taken: Iterable[str]) -> Unusable:
    """What is said of headers that are Celery's own."""
    return Unusable("own_header", text=", ".join(sorted(taken)))


def _json(text: str | None, field: str, empty: Any) -> Any:
    if not text or (text in {"[]", "{}"} and text == json.dumps(empty)):
        return type(empty)()
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as problem:
        raise Unusable("no_json", field=field, text=str(problem)) from None
    if not isinstance(value, type(empty)):
        raise Unusable("no_array" if isinstance(empty, list) else "no_object", field=field)
    return value
