"""Messages that take down whoever begins them: counted, and stopped after so many starts.

Starts are counted, not deliveries: what a worker had only fetched when it went down did no harm. The count is written by the process
that runs the task, just before it does, so that it is there whatever happens next. Only a message that the broker delivers once
more pays for it, and each start of a task with `max_deliveries = 1`, which must know of the first and does not start without it.
"""

import logging
import time
from datetime import timedelta
from typing import Any

from celery import signals
from celery.exceptions import Reject
from django.conf import settings
from django.db import Error, connection
from django.utils import timezone

from deadletters.envelope import replay_number
from deadletters.workers import Starts

logger = logging.getLogger(__name__)

# By then a message has been replayed, or its queue was purged.
_KEPT = timedelta(days=7)
# By then a worker has looked at what came again because the acknowledgement was lost.
_KEPT_ENDED = timedelta(days=1)
# Seconds until a message whose start could not be noted goes back to its queue: it comes again at once.
PAUSE = 0.5
_TABLE = Starts._meta.db_table


class PoisonMessage(Exception):
    """A message that was begun as often as it may be, and never came to an end."""


def limit_of(task: Any) -> int:
    """How often a message of this task may be begun."""
    return int(getattr(task, "max_deliveries", None) or settings.DEADLETTERS_MAX_DELIVERIES)


def begun(task_id: str, attempt: str, limit: int) -> int:
    """How often this attempt was begun until now, asked before a redelivered message runs.

    The first start of a task that may start more than once is written nowhere: it is assumed, for nearly always that is why the
    message comes again.

    Raises:
        django.db.Error: nobody knows.
    """
    starts = Starts.objects.filter(task_id=task_id, attempt=attempt).values_list("starts", flat=True).first()
    return starts if starts is not None else min(limit - 1, 1)


def note_start(task_id: str, attempt: str, starts: int) -> None:
    """This attempt is begun now, for the `starts`th time."""
    with connection.cursor() as cursor:
        cursor.execute(
            # S608: the table's name is ours.
            f"INSERT INTO {_TABLE} (task_id, attempt, starts, at) VALUES (%s, %s, %s, now())"  # noqa: S608
            " ON CONFLICT (task_id) DO UPDATE SET attempt = excluded.attempt, starts = excluded.starts, at = now()",
            [task_id, attempt, starts],
        )


def forget(task: Any, task_id: str) -> None:
    """It came to an end. Never raises: a row that stays is of an attempt that nobody will deliver again.

    Where one start is too many the row stays for a while: the worker may be lost before it has acknowledged the message.
    """
    rows = Starts.objects.filter(task_id=task_id)
    try:
        if limit_of(task) == 1:
            rows.update(at=timezone.now() - _KEPT + _KEPT_ENDED)
        else:
            rows.delete()
    except Error as problem:
        logger.warning("task.starts_not_forgotten", extra={"task_id": task_id, "reason": str(problem)})


def expire() -> None:
    """Forget what nobody will deliver again."""
    Starts.objects.filter(at__lt=timezone.now() - _KEPT).delete()


def attempt_of(headers: Any, retries: int | None) -> str:
    """Replay and retry number: a task that is tried again on purpose begins to count anew."""
    return f"{replay_number(headers)}.{retries or 0}"


def is_counted(task: Any, request: Any) -> bool:
    """Whether this start pays for the counter. `begun` is set by the main process for a redelivered message."""
    return request.get("begun") is not None or limit_of(task) == 1


def begin(task: Any) -> None:
    """In the process that is about to run the task.

    Raises:
        Reject: it may start once, and this start could not be noted. It goes back to its queue.
    """
    request = task.request
    if not is_counted(task, request):
        return
    try:
        note_start(request.id, attempt_of(request.headers, request.retries), (request.get("begun") or 0) + 1)
    except Error as problem:
        logger.warning("task.start_not_noted", extra={"task_id": request.id, "task": task.name, "reason": str(problem)})
        if limit_of(task) == 1 and task.acks_late:
            time.sleep(PAUSE)
            raise Reject("its only start could not be noted", requeue=True) from problem


def on_task_success(sender: Any, **_: Any) -> None:
    """In the process that ran the task, after its result is stored."""
    if not sender.request.is_eager and is_counted(sender, sender.request):
        forget(sender, sender.request.id)


def connect() -> None:
    """Listen to what this process runs."""
    signals.task_success.connect(on_task_success, weak=False, dispatch_uid="deadletters.capture.poison")
