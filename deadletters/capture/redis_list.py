"""Each new letter as JSON on a Redis list, for tools that read one (`DEADLETTERS_REDIS_LIST`)."""

import json
from typing import Any

import redis
from django.conf import settings

from deadletters.models import DeadLetter
from deadletters.secrets.payload import masked
from deadletters.signals import dead_letter_opened

_SECONDS = 5  # longest wait for Redis; the announcer's thread waits, no task does


def push(dead_letter: DeadLetter) -> None:
    """RPUSH {task_id, task_name, args, kwargs, exception, failed_at}, masked; args and kwargs are null when the body cannot be read.

    Raises:
        redis.RedisError: Redis is away.
    """
    payload = masked(dead_letter)
    entry = {
        "task_id": dead_letter.task_id,
        "task_name": dead_letter.task_name,
        "args": payload.args,
        "kwargs": payload.kwargs,
        "exception": f"{dead_letter.exception_type}: {dead_letter.exception_message}",
        "failed_at": dead_letter.died_at.isoformat(),
    }
    with redis.Redis.from_url(
        settings.DEADLETTERS_REDIS_URL, socket_timeout=_SECONDS, socket_connect_timeout=_SECONDS
    ) as client:
        client.rpush(settings.DEADLETTERS_REDIS_LIST, json.dumps(entry, default=str))


def on_dead_letter_opened(dead_letter: DeadLetter, **_: Any) -> None:
    """The receiver."""
    if settings.DEADLETTERS_REDIS_LIST:
        push(dead_letter)


def connect() -> None:
    """Listen for new letters."""
    dead_letter_opened.connect(on_dead_letter_opened, weak=False, dispatch_uid="deadletters.capture.redis_list")
