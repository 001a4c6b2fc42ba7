"""What would quietly lose letters, said at start."""

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register


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
