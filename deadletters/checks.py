"""What would quietly lose letters, said at start."""

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Info, Tags, register


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
