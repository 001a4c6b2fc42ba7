"""A worker takes each occurrence once: a second copy of its message, sent by a beat that woke up too late, is dropped."""

import logging
from typing import Any
from uuid import UUID

from billiard import current_process
from celery import signals, states
from celery.app.task import get_actual_ignore_result  # type: ignore[attr-defined]  # celery-types is behind
from django.db import Error, close_old_connections, connection
from django_celery_results.backends import DatabaseBackend

from schedules.message import COPY_HEADER

logger = logging.getLogger(__name__)

# The first copy wins. A redelivery and a retry carry the same copy again, and pass.
TAKE = """
    UPDATE schedules_occurrence SET copy = %(copy)s, received_at = coalesce(received_at, clock_timestamp())
     WHERE id = %(id)s AND copy IN ('', %(copy)s)
"""
TAKEN = "SELECT copy FROM schedules_occurrence WHERE id = %(id)s"
ENDED = "UPDATE schedules_occurrence SET outcome = %(outcome)s WHERE id = %(id)s"
# By id alone: what is no occurrence has an id that is none here.
CUT_OFF = "UPDATE schedules_occurrence SET outcome = %(outcome)s WHERE id = %(id)s AND outcome = ''"

# What Celery says in the Ignore of `Task.replace`.
REPLACED = "Replaced by new task"


def connect() -> None:
    """Listen to Celery's worker."""
    signals.task_received.connect(on_received, weak=False, dispatch_uid="schedules.arrival")
    signals.task_postrun.connect(on_ended, weak=False, dispatch_uid="schedules.ended")
    signals.task_failure.connect(on_lost, weak=False, dispatch_uid="schedules.lost")
    signals.task_revoked.connect(on_revoked, weak=False, dispatch_uid="schedules.revoked")


def on_received(request: Any, **_kwargs: Any) -> None:
    """In the worker's main process, before the task is handed to the pool."""
    copy = (request.request_dict or {}).get(COPY_HEADER)
    if not copy or is_first(request.id, copy):
        return
    logger.warning("occurrence.second_copy_dropped", extra={"task_id": request.id, "task": request.name})
    request.acknowledge()
    # Celery asks this once more before it runs a task; its own way of saying so would store REVOKED for the copy that runs.
    request._already_revoked = True


def is_first(task_id: str, copy: str) -> bool:
    """Whether this copy of the occurrence may run; also when nobody can know."""
    facts = {"id": task_id, "copy": copy}
    if not connection.in_atomic_block:
        close_old_connections()
    with connection.cursor() as cursor:
        cursor.execute(TAKE, facts)
        if cursor.rowcount:
            return True
        cursor.execute(TAKEN, facts)
        # No row: it was pruned, or is of another installation.
        return cursor.fetchone() is None


def on_ended(task: Any, task_id: str, state: str | None, retval: Any = None, **_kwargs: Any) -> None:
    """In the process that ran it: what stores no result that beat can read is noted on its occurrence."""
    # Another task took its place under the same id; that one's result is to come.
    replaced = state == states.IGNORED and str(retval) == REPLACED
    if (
        (_is_readable(task, task.request) and (replaced or state not in {states.REJECTED, states.IGNORED}))
        or state == states.RETRY
        or not task.request.get(COPY_HEADER)
    ):
        return
    with connection.cursor() as cursor:
        cursor.execute(ENDED, {"id": task_id, "outcome": state or states.SUCCESS})


def on_lost(sender: Any, task_id: str, **_kwargs: Any) -> None:
    """In the worker's main process: the process that ran it was killed and could not say so."""
    if str(current_process()._name) != "MainProcess":
        return  # the process that ran it says so itself
    request = sender.request_stack.top
    if request is None or not request.is_eager:
        _note(sender, task_id, request, states.FAILURE)


def on_revoked(sender: Any, request: Any, **_kwargs: Any) -> None:
    """In the worker's main process: the message expired, or an operator revoked it."""
    _note(sender, request.id, request, states.REVOKED)


def _note(task: Any, task_id: str, request: Any, outcome: str) -> None:
    """How it ended without an end of its own, unless a result says so: that may become another by a replay."""
    try:
        facts: dict[str, Any] = {"id": UUID(task_id), "outcome": outcome}
    except ValueError:
        return
    if _is_readable(task, request):
        return
    try:
        with connection.cursor() as cursor:
            cursor.execute(CUT_OFF, facts)
    except Error:
        logger.warning("occurrence.end_not_noted", extra={"task_id": task_id}, exc_info=True)


def _is_readable(task: Any, request: Any) -> bool:
    return isinstance(task.backend, DatabaseBackend) and not get_actual_ignore_result(task, request)
