"""The failure of a letter's task, told late: PostgreSQL was away when it died, or its whole worker was lost, and nobody heard of it."""

import logging
from typing import Any

from celery import current_app, states
from celery.app.task import Context
from celery.exceptions import BackendError, WorkerLostError
from celery.utils.serialization import create_exception_cls
from django.db import DatabaseError, OperationalError

from deadletters.envelope import Envelope, NoEnvelope
from deadletters.models import NO_TASK_ID, Cause, DeadLetter, State

logger = logging.getLogger(__name__)


def repair(task_id: str, replay_number: int, envelope: Envelope | None = None, *, is_untold: bool = False) -> bool:
    """Write the task's failure if its result is still open: a waiting `get()` ends, chord and chain hear of it, errbacks run.

    Only for a letter that still stands as it died: not when a replay was sent meanwhile. Of a task without a result nobody can see
    whether its end was told: that is done only with `is_untold`, by whoever knows that it was not. `envelope`: for who has it at hand.
    Returns whether a result was written.

    Raises:
        django.db.DatabaseError: PostgreSQL is away again; to be repeated.
    """
    letter = DeadLetter.objects.filter(task_id=task_id, state=State.OPEN, replay_number=replay_number).first()
    if letter is None or task_id.startswith(NO_TASK_ID):
        return False
    try:
        envelope = envelope or Envelope.of(letter)
    except NoEnvelope:
        envelope = Envelope.bare(letter)  # who waits behind it is not known, its own result is
    backend: Any = current_app.backend
    try:
        if envelope.headers.get("ignore_result"):
            if is_untold:
                _fail(backend, letter, envelope, store_result=False)
            return False
        if _is_ready(backend, task_id):
            return False
        _fail(backend, letter, envelope)
        if not _is_ready(backend, task_id):  # a backend may keep to itself that it could not store
            raise OperationalError(f"the failure of {task_id} was not stored")
    except DatabaseError:
        raise
    except BackendError as problem:
        raise OperationalError(str(problem)) from problem
    except Exception:
        # Whatever an errback or a chord's body raised, or no result backend at all: the letter itself is safe.
        logger.exception("dead_letter.failure_not_told", extra={"task_id": task_id, "task": letter.task_name})
        return False
    logger.debug("dead_letter.failure_told", extra={"task_id": task_id, "task": letter.task_name})
    return True


def _is_ready(backend: Any, task_id: str) -> bool:
    return backend.get_task_meta(task_id, cache=False)["status"] in states.READY_STATES


def _fail(backend: Any, letter: DeadLetter, envelope: Envelope, *, store_result: bool = True) -> None:
    arguments = envelope.arguments()
    request = Context({**envelope.headers, **(arguments.embed if arguments else {}), "id": letter.task_id})
    if letter.cause == Cause.EXPIRED:
        backend.mark_as_revoked(letter.task_id, "expired", request=request, store_result=store_result)
        return
    kind = WorkerLostError if letter.cause == Cause.WORKER_LOST else _named(letter.exception_type)
    backend.mark_as_failure(
        letter.task_id, kind(letter.exception_message), letter.traceback, request=request, store_result=store_result
    )


def _named(name: str) -> type[BaseException]:
    # The class itself may be known to the process only that is gone.
    kind: type[BaseException] = create_exception_cls(name or "Exception", "deadletters")
    return kind
