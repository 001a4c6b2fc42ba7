"""How a replay ended. A death is told by capture; here are the others."""

import logging
from typing import Any

from celery import signals
from django.db import transaction
from django.utils import timezone

from deadletters.capture import ledger
from deadletters.envelope import replay_number
from deadletters.models import DeadLetter, Event, State

logger = logging.getLogger(__name__)


def succeeded(task_id: str, number: int) -> bool:
    """Replay `number` of this task succeeded: its letter is resolved. False when another replay is under way, or none."""
    return _settle(task_id, number, State.RESOLVED, Event.Kind.SUCCEEDED, "")


def ended(task_id: str, number: int, why: str, *, resolved: bool) -> bool:
    """Replay `number` ended on purpose, neither succeeding nor dying: the letter is resolved, or open again."""
    state, kind = (State.RESOLVED, Event.Kind.SUCCEEDED) if resolved else (State.OPEN, Event.Kind.NOT_SENT)
    return _settle(task_id, number, state, kind, why)


def found_successful(task_id: str, number: int) -> bool:
    """A copy of the message succeeded although the letter is open: there is nothing left to replay."""
    return _settle(task_id, number, State.RESOLVED, Event.Kind.SUCCEEDED, "it had succeeded meanwhile", of=State.OPEN)


def _settle(  # noqa: PLR0917  (private)
    task_id: str, number: int, state: State, kind: Event.Kind, text: str, of: State = State.REPLAYING
) -> bool:
    with transaction.atomic():
        letters = DeadLetter.objects.filter(task_id=task_id, replay_number=number, state=of)
        letter = letters.select_for_update().only("pk").first()
        if letter is None:
            return False
        letters.update(state=state)
        Event.objects.create(dead_letter=letter, kind=kind, at=timezone.now(), replay_number=number, text=text)
    logger.info("dead_letter.settled", extra={"task_id": task_id, "state": state.value, "replay": number})
    return True


def on_task_success(sender: Any, **_: Any) -> None:
    """In the process that ran the task, after its result is stored; an ordinary task pays two dictionary look-ups."""
    request = sender.request
    if not sender.acks_late and (sender.ignore_result or request.ignore_result) and not request.is_eager:
        # No result tells whoever finds its worker lost that it had ended.
        ledger.close_of(request.id, request.headers, request.retries, request.hostname)
    number = replay_number(request.headers) if request.headers else 0
    if number and succeeded(request.id, number):
        return
    # Another copy of the message may have died, or its worker was silent for so long that it was given up.
    if (request.delivery_info or {}).get("redelivered") or not (sender.acks_late or request.is_eager):
        found_successful(request.id, number)


def connect() -> None:
    """Listen to Celery's successes."""
    signals.task_success.connect(on_task_success, weak=False, dispatch_uid="deadletters.capture.outcome")
