"""Tasks that could hang for ever, or die without a letter, are refused at start."""

from collections.abc import Iterator
from typing import Any

from celery import current_app
from django.core.checks import CheckMessage, Error, Warning, register  # noqa: A004  (Django's name for it)
from django.utils.module_loading import autodiscover_modules
from kombu.utils.imports import symbol_by_name

# Of these names, so that a command need not import the worker to know its Request.
OURS = {"deadletters.request:DeadLetterRequest", "deadletters.request.DeadLetterRequest"}


@register()
def tasks_end(**_: Any) -> list[CheckMessage]:
    """Each task has a soft and a hard time limit, of its own or the default one, the soft one first."""
    default = (current_app.conf.task_soft_time_limit, current_app.conf.task_time_limit)
    if all(default) and default[0] >= default[1]:
        return [
            Error(
                f"The default soft time limit ({default[0]} s) does not come before the hard one ({default[1]} s).",
                hint="Set TASK_SOFT_TIME_LIMIT below TASK_TIME_LIMIT.",
                id="pipelines.E004",
            )
        ]
    return [problem for task in _tasks() for problem in _limits_of(task)]


@register()
def deaths_are_captured(**_: Any) -> list[CheckMessage]:
    """Each task's Request is the one that makes a dead letter of its death."""
    return [
        Error(
            f"The task {task.name} would die without leaving a dead letter.",
            hint="Build it on the app's own Task class, or let the Request of its class inherit from DeadLetterRequest.",
            obj=task.name,
            id="pipelines.E003",
        )
        for task in _tasks()
        if not _captures(task.Request)
    ]


def _tasks() -> list[Any]:
    # As Celery does it, but without its signal: its Django fixup answers that by running all checks, this one too.
    autodiscover_modules("tasks")
    current_app.finalize()
    return [task for _, task in sorted(current_app.tasks.items())]


def _limits_of(task: Any) -> Iterator[CheckMessage]:
    soft, hard = task.soft_time_limit, task.time_limit
    if not soft or not hard:
        yield Error(
            f"The task {task.name} has no {'hard' if soft else 'soft'} time limit, so that it could hang for ever.",
            hint="Give it soft_time_limit and time_limit (seconds), or set TASK_SOFT_TIME_LIMIT and TASK_TIME_LIMIT.",
            obj=task.name,
            id="pipelines.E001",
        )
    elif soft >= hard:
        yield Error(
            f"The task {task.name} is killed after {hard} s, before it is told to stop after {soft} s.",
            hint="Make its soft_time_limit smaller than its time_limit.",
            obj=task.name,
            id="pipelines.E002",
        )
    visible = (current_app.conf.broker_transport_options or {}).get("visibility_timeout")
    if hard and visible and hard >= visible:
        yield Warning(
            f"The task {task.name} may take {hard} s, but after {visible} s Redis gives its message to a second worker.",
            hint="Set VISIBILITY_TIMEOUT above the longest time limit.",
            obj=task.name,
            id="pipelines.W001",
        )


def _captures(request: Any) -> bool:
    if isinstance(request, str) and request in OURS:
        return True
    base = symbol_by_name("deadletters.request:DeadLetterRequest")
    return issubclass(symbol_by_name(request), base)
