"""What would quietly lose letters, said at start."""

import os
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register
from django.core.checks import Warning as Caution

from deadletters.spool import SpoolError, spool


@register()
def worker_captures(**_: Any) -> list[CheckMessage]:
    """The worker must consume with our consumer, or messages that never became a task vanish."""
    wanted = "deadletters.consumer:DeadLetterConsumer"
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


@register()
def spool_is_usable(**_: Any) -> list[CheckMessage]:
    """Letters must have somewhere to wait while PostgreSQL is away; what is no letter there needs a person."""
    where = str(settings.DEADLETTERS_SPOOL)
    try:
        aside = spool().aside()
    except SpoolError as problem:
        return [
            Caution(f"{problem}.", hint="Letters are lost to the log while PostgreSQL is away.", id="deadletters.W010")
        ]
    if "://" not in where and not _writable(Path(where)):
        return [
            Caution(
                f"The spool {where} cannot be written.",
                hint="Let the worker's user write there, or set DEADLETTERS_SPOOL to another folder.",
                id="deadletters.W010",
            )
        ]
    if aside:
        return [
            Caution(
                f"The spool {where} holds {aside} lines that are no letters.",
                hint="See 'A server is away' in docs/operations.md; remove the files that end in .set-aside when you have read them.",
                id="deadletters.W011",
            )
        ]
    return []


def _writable(folder: Path) -> bool:
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    return existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)
