"""What would quietly lose letters, said at start."""

import os
from pathlib import Path
from typing import Any

from celery import current_app
from django.conf import settings
from django.core.checks import CheckMessage, Error, Info, Tags, Warning, register  # noqa: A004  (Django's name for it)
from django.utils.module_loading import autodiscover_modules

from deadletters.capture.spool import SpoolError, spool
from deadletters.capture.uncaptured import uncaptured


@register()
def worker_captures(**_: Any) -> list[CheckMessage]:
    """The worker must consume with our consumer, or messages that never became a task vanish."""
    wanted = "deadletters.capture.consumer:DeadLetterConsumer"
    if str(getattr(settings, "CELERY_WORKER_CONSUMER", "")).replace(":", ".") == wanted.replace(":", "."):
        return []
    return [
        Error(
            "Messages that no task is made of would be lost.",
            hint=f'Set CELERY_WORKER_CONSUMER = "{wanted}".',
            id="deadletters.E001",
        )
    ]


@register()
def redis_list_has_a_server(**_: Any) -> list[CheckMessage]:
    """A list needs a Redis to be on."""
    if not settings.DEADLETTERS_REDIS_LIST or settings.DEADLETTERS_REDIS_URL:
        return []
    return [
        Error(
            "DEADLETTERS_REDIS_LIST is set, but there is no Redis to push to.",
            hint="Set REDIS_URL, or clear DEADLETTERS_REDIS_LIST.",
            id="deadletters.E002",
        )
    ]


@register(Tags.security, deploy=True)
def payloads_are_sealed(**_: Any) -> list[CheckMessage]:
    """Whoever can read the table, or a backup of it, can read every argument; sealing is off unless somebody keeps a key."""
    if settings.DEADLETTERS_KEYS:
        return []
    return [
        Info(
            "The payloads of dead letters are stored as they are.",
            hint="`manage.py reseal_dead_letters --new-key` prints a key for DEADLETTERS_KEYS. Keep it as safe as a backup.",
            id="deadletters.I001",
        )
    ]


@register(deploy=True)
def open_letters_are_pruned(**_: Any) -> list[CheckMessage]:
    """An open letter is a task that nobody has dealt with."""
    if not {*settings.DEADLETTERS_RETENTION_DAYS, *settings.DEADLETTERS_RETENTION_COUNT} & {"open"}:
        return []
    return [
        Info(
            "Open dead letters are pruned, as DEADLETTERS_RETENTION_DAYS or DEADLETTERS_RETENTION_COUNT says.",
            hint="Take `open` out of them to keep every letter until somebody has replayed or discarded it.",
            id="deadletters.I002",
        )
    ]


@register(deploy=True)
def payloads_are_dropped(**_: Any) -> list[CheckMessage]:
    """A letter without its message cannot be replayed."""
    number = settings.DEADLETTERS_KEEP_PAYLOADS_PER_ERROR
    if not number:
        return []
    return [
        Info(
            f"Of one error only about {number} letters can be replayed: the messages of more are not kept.",
            hint="Set DEADLETTERS_KEEP_PAYLOADS_PER_ERROR to 0 to keep every message.",
            id="deadletters.I003",
        )
    ]


@register()
def deaths_are_captured(**_: Any) -> list[CheckMessage]:
    """Each task's Request is the one that makes a dead letter of its death."""
    _find_tasks()
    return [
        Error(
            f"The task {name} would die without leaving a dead letter.",
            hint="Build it on the app's own Task class, or let the Request of its class inherit from DeadLetterRequest.",
            obj=name,
            id="deadletters.E003",
        )
        for name in uncaptured(current_app)
    ]


@register()
def rules_name_arguments(**_: Any) -> list[CheckMessage]:
    """A task whose `redact` cannot be read has no letter: what must not be shown is not known."""
    _find_tasks()
    return [
        Error(
            f"The task {name} has redact={rule!r}, which names no arguments.",
            hint='Write names and positions in a list: redact=["card_number", 0].',
            obj=name,
            id="deadletters.E005",
        )
        for name, task in sorted(current_app.tasks.items())
        if not _names_arguments(rule := getattr(task, "redact", None))
    ]


def _find_tasks() -> None:
    # As Celery does it, but without its signal: its Django fixup answers that by running all checks, these too.
    autodiscover_modules("tasks")
    current_app.finalize()


def _names_arguments(rule: Any) -> bool:
    return rule is None or (
        isinstance(rule, (list, tuple, set, frozenset)) and all(isinstance(item, (str, int)) for item in rule)
    )


@register()
def nothing_loops_or_is_lost(**_: Any) -> list[CheckMessage]:
    """The settings under which a lost worker costs nothing."""
    conf = current_app.conf
    visible = (conf.broker_transport_options or {}).get("visibility_timeout")
    found = (
        (
            conf.task_acks_late,
            "CELERY_TASK_ACKS_LATE is off: what a lost worker was running becomes a dead letter instead of running again.",
            "Set it, and acks_late=False on tasks that must not run twice.",
            "W001",
        ),
        (
            conf.task_acks_on_failure_or_timeout,
            "CELERY_TASK_ACKS_ON_FAILURE_OR_TIMEOUT is off: a task at its time limit runs again until its deliveries are used up.",
            "Set it; a dead letter can be replayed.",
            "W002",
        ),
        (
            conf.worker_prefetch_multiplier == 1,
            "CELERY_WORKER_PREFETCH_MULTIPLIER is not 1: messages wait behind long tasks while other workers are idle.",
            "Set it to 1.",
            "W003",
        ),
        (
            not visible or visible > settings.WORKER_LOST_AFTER,
            f"Redis gives a message to another worker after {visible} s, before its worker counts as lost.",
            "Set VISIBILITY_TIMEOUT well above WORKER_LOST_AFTER.",
            "W004",
        ),
    )
    return [Warning(what, hint=hint, id=f"deadletters.{number}") for fine, what, hint, number in found if not fine]


@register()
def spool_is_usable(**_: Any) -> list[CheckMessage]:
    """Letters must have somewhere to wait while PostgreSQL is away; what is no letter there needs a person."""
    where = str(settings.DEADLETTERS_SPOOL)
    try:
        aside = spool().aside()
    except SpoolError as problem:
        return [
            Warning(f"{problem}.", hint="Letters are lost to the log while PostgreSQL is away.", id="deadletters.W010")
        ]
    if "://" not in where and not _writable(Path(where)):
        return [
            Warning(
                f"The spool {where} cannot be written.",
                hint="Let the worker's user write there, or set DEADLETTERS_SPOOL to another folder.",
                id="deadletters.W010",
            )
        ]
    if aside:
        return [
            Warning(
                f"The spool {where} holds {aside} lines that are no letters.",
                hint="See 'A server is away' in docs/operations.md; remove the files that end in .set-aside when you have read them.",
                id="deadletters.W011",
            )
        ]
    return []


def _writable(folder: Path) -> bool:
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    return existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)


@register()
def policies_make_sense(**_: Any) -> list[CheckMessage]:
    """A policy that cannot be read would replay nothing, in silence."""
    from deadletters.redrive.policy import policies  # noqa: PLC0415  (models must be loaded first)

    try:
        policies()
    except (TypeError, ValueError, AttributeError) as problem:
        return [
            Error(
                f"A policy of automatic replays cannot be read: {problem}",
                hint='Write REPLAY_POLICIES={"task.name": {"after": 600, "times": 2, "breaker": 50, "rate": 10}}.',
                id="deadletters.E004",
            )
        ]
    return []
