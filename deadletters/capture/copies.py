"""Of several copies of one message the first that a worker begins runs; the others are dropped.

A crash between the broker and the database leaves open whether a message was sent. Whoever settles that may therefore send it again:
each sending puts an id of its own into the message, and this is where the second one ends. Only such messages pay for the look.
"""

import logging
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from celery.exceptions import Ignore
from django.db import connection
from django.utils import timezone

from deadletters.envelope import COPY_HEADER, replay_number
from deadletters.models import BegunCopy, DeadLetter

logger = logging.getLogger(__name__)

# A copy that waits longer than this in its queue may run although another has.
KEPT = timedelta(days=30)

_LETTERS, _BEGUN = DeadLetter._meta.db_table, BegunCopy._meta.db_table
# S608: every name is ours. The row's lock is the referee between two copies, and between a copy and whoever opens the letter again.
_BEGIN_REPLAY = f"""
    UPDATE {_LETTERS} SET started_copy = %(copy)s
     WHERE task_id = %(task_id)s AND replay_number = %(number)s AND state = 'replaying'
       AND (started_copy IS NULL OR started_copy = %(copy)s)
"""  # noqa: S608
_BEGIN = f"""
    INSERT INTO {_BEGUN} AS begun (task_id, copy, begun_at) VALUES (%(task_id)s, %(copy)s, now())
    ON CONFLICT (task_id) DO UPDATE SET copy = begun.copy WHERE begun.copy = excluded.copy
"""  # noqa: S608


class Superseded(Ignore):  # type: ignore[misc]  # celery.exceptions ships no types
    """Another copy of this message has begun, or its letter has moved on: this one is dropped."""


def refuse_second_copy(task_id: str, headers: Mapping[str, Any] | None) -> None:
    """Called when a worker begins a task. A redelivery of the copy that has begun passes.

    Raises:
        Superseded: this message must not run.
    """
    copy = headers.get(COPY_HEADER) if headers else None
    if copy is None or headers is None:
        return
    number = replay_number(headers)
    if not _begin(task_id, number, str(copy)):
        logger.warning("message.superseded", extra={"task_id": task_id, "replay": number, "copy": copy})
        raise Superseded("another copy of this message has begun")


def forget_old_copies() -> int:
    """Delete what no message in a queue can ask for any more; how many."""
    deleted, _ = BegunCopy.objects.filter(begun_at__lt=timezone.now() - KEPT).delete()
    return deleted


def _begin(task_id: str, number: int, copy: str) -> bool:
    with connection.cursor() as cursor:
        cursor.execute(_BEGIN_REPLAY if number else _BEGIN, {"task_id": task_id, "number": number, "copy": copy})
        if cursor.rowcount:
            return True
    # Without its letter (a database restored from a backup) a replay is just a message.
    return bool(number) and not DeadLetter.objects.filter(task_id=task_id).exists()
