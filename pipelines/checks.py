"""Tasks that could hang for ever are refused at start."""

from collections.abc import Iterator
from typing import Any

from celery import current_app
from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register  # noqa: A004  (Django's name for it)
from django.utils.module_loading import autodiscover_modules

from pipelines.steps import files


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
def storage_is_known(**_: Any) -> list[CheckMessage]:
    """Where steps read and write is said in a way that they understand: else each of them would die of it."""
    told = {"STORAGE_URL": settings.STORAGE_URL, "UPLOAD_URL": settings.UPLOAD_URL}
    return [
        Error(f"{name} {wrong}.", id="pipelines.E005") for name, url in told.items() if (wrong := files.complaint(url))
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
