"""A task that succeeded after all: its worker was only silent, or another copy of its message died. It is not shown dead."""

import logging
from datetime import timedelta
from typing import Any

from celery import Celery, signals, states
from django.db import transaction
from django.utils import timezone

from deadletters.envelope import replay_number
from deadletters.models import DeadLetter, Event, State

logger = logging.getLogger(__name__)

# A worker that was stopped for longer, or a copy that ran on for longer, is found by the person who looks at the letter.
_LOOK_BACK = timedelta(days=1)
_BATCH = 5_000


def finished(task_id: str, number: int) -> bool:
    """Replay `number` of this task (0: the original) has succeeded: if it was given up meanwhile, its letter is resolved."""
    with transaction.atomic():
        letters = DeadLetter.objects.filter(task_id=task_id, replay_number=number, state=State.OPEN)
        letter = letters.select_for_update().only("pk").first()
        if letter is None:
            return False
        letters.update(state=State.RESOLVED)
        Event.objects.create(
            dead_letter=letter,
            kind=Event.Kind.SUCCEEDED,
            at=timezone.now(),
            replay_number=number,
            text="it finished after all",
        )
    logger.info("dead_letter.finished_after_all", extra={"task_id": task_id, "replay": number})
    return True


def look(app: Celery) -> int:
    """Resolve the open letters whose task has succeeded since it was captured; returns how many.

    For the success of a process that could not know that its message had a copy, or that PostgreSQL did not hear.
    """
    ready = getattr(app.backend, "ready", None)
    if ready is None:
        return 0
    recent = DeadLetter.objects.open().filter(died_at__gt=timezone.now() - _LOOK_BACK, started_at__isnull=False)
    letters = {row[0]: row[1:] for row in recent.values_list("task_id", "replay_number", "died_at")[:_BATCH]}
    return sum(
        finished(task_id, letters[task_id][0])
        for task_id, (status, done_at) in ready(letters).items()
        if status == states.SUCCESS and done_at and done_at > letters[task_id][1]
    )


def on_task_success(sender: Any, **_: Any) -> None:
    """In the process that ran the task: only one that might have been given up meanwhile asks."""
    request = sender.request
    if (request.delivery_info or {}).get("redelivered") or not (sender.acks_late or request.is_eager):
        finished(request.id, replay_number(request.headers))


def connect() -> None:
    """Listen to what this process runs."""
    signals.task_success.connect(on_task_success, weak=False, dispatch_uid="deadletters.late")
