"""The PostgreSQL result backend: one prepared statement a result, and chords that can be re-opened.

The tables are django-celery-results', so its admin, and `AsyncResult` of any process, read them as ever.
"""

import logging
from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any

import psycopg
from billiard import current_process
from celery import states
from celery.backends.base import get_current_task
from celery.exceptions import BackendError, BackendStoreError
from django.db import DatabaseError, InterfaceError, OperationalError, connections, router
from django_celery_results.backends.database import DatabaseBackend
from django_celery_results.models import TaskResult

from deadletters.capture import breaker
from deadletters.envelope import clean
from pipelines import masked
from pipelines.barrier import Barrier, Standing

logger = logging.getLogger(__name__)

# A later report without a value (STARTED knows no arguments, say) keeps what an earlier one said.
_KEPT = ("periodic_task_name", "task_name", "task_args", "task_kwargs", "worker", "date_started")
_RENEWED = ("status", "content_type", "content_encoding", "result", "date_done", "traceback", "meta")

_TABLE = TaskResult._meta.db_table
# S608: every name is ours; all values are parameters. A late failure (a copy after a visibility time-out, a worker lost after its
# child stored SUCCESS) never overwrites a success; and a late STARTED or RETRY no failure: the next attempt, in another process, may have
# died before this one has said that it will be tried again. A replay sets the row back to PENDING first.
_STORE = f"""
    INSERT INTO {_TABLE} (task_id, date_created, {", ".join(_KEPT + _RENEWED)})
    VALUES (%s, %s, {", ".join(["%s"] * len(_KEPT + _RENEWED))})
    ON CONFLICT (task_id) DO UPDATE SET
        {", ".join(f"{name} = COALESCE(excluded.{name}, {_TABLE}.{name})" for name in _KEPT)},
        {", ".join(f"{name} = excluded.{name}" for name in _RENEWED)}
    WHERE excluded.status = 'SUCCESS'
       OR {_TABLE}.status <> 'SUCCESS'
          AND ({_TABLE}.status NOT IN ('FAILURE', 'REVOKED') OR excluded.status NOT IN ('STARTED', 'RETRY'))
"""  # noqa: S608

# What nearly every task's meta is: no children, nothing of its own.
_NO_META = '{"children": []}'
# Once more, when PostgreSQL is away: a success for minutes (the waits grow to 10 s), as long as the task's time limit allows; what else
# a task writes for a moment; elsewhere once, for the worker's event loop and a web request must not hang.
_TRIES_OF_A_SUCCESS, _TRIES_OF_A_TASK, _TRIES = 40, 5, 1


class ResultBackend(Barrier, DatabaseBackend):  # type: ignore[misc]  # django-celery-results ships no types
    """django-celery-results' backend with a one-statement write and a chord barrier of our own."""

    def _store_result(  # noqa: PLR0917  (Celery's signature)
        self,
        task_id: str,
        result: Any,
        status: str,
        traceback: str | None = None,
        request: Any = None,
        using: str | None = None,
    ) -> Any:
        # Celery calls mark_as_started without the request; the running task has it.
        request = request or getattr(get_current_task(), "request", None)
        if status in states.EXCEPTION_STATES and isinstance(result, dict):
            result, traceback = masked.failure(request, result, traceback)
        content_type, content_encoding, encoded = self.encode_content(result)
        now = datetime.now(UTC)
        values = (
            task_id,
            now,
            *self._about(request, now if status == states.STARTED else None),
            status,
            content_type,
            content_encoding,
            encoded,
            now,
            # PostgreSQL refuses NUL and unpaired surrogates, and the task's true exception would be hidden behind its DataError.
            clean(str(traceback)) if traceback else None,
            self._meta(request),
        )
        connection = connections[using or router.db_for_write(TaskResult)]
        with connection.wrap_database_errors:
            _execute_prepared(connection, values)
        return encoded

    def _about(self, request: Any, started: datetime | None) -> tuple[Any, ...]:
        """The values of _KEPT. Without a request there is nothing to say."""
        if request is None:
            return (None, None, None, None, None, started)
        begun = getattr(request, "begun_at", None)
        encoded = (None if value is None else self.encode_content(value)[2] for value in masked.arguments(request))
        return (
            getattr(request, "periodic_task_name", None),
            getattr(request, "task", None),
            *encoded,
            getattr(request, "hostname", None),
            started or (datetime.fromtimestamp(begun, UTC) if begun else None),
        )

    def _meta(self, request: Any) -> str:
        meta, children = self._get_meta_from_request(request), self.current_task_children(request)
        if not meta and children == []:
            return _NO_META
        encoded: str = self.encode_content({**meta, "children": children})[2]
        return encoded

    # --- PostgreSQL away --------------------------------------------------------------------------------------------

    def exception_safe_to_retry(self, exc: BaseException) -> bool:
        """A lost connection: writing the same row once more does no harm. Not within a transaction, which is lost, too."""
        connection = connections[router.db_for_write(TaskResult)]
        if not isinstance(exc, (OperationalError, InterfaceError)) or connection.in_atomic_block:
            return False
        connection.close()
        return True

    def store_result(self, task_id: str, result: Any, state: str, *args: Any, **kwargs: Any) -> Any:
        tries = _TRIES_OF_A_SUCCESS if state == states.SUCCESS and _in_pool() else None
        return super().store_result(task_id, result, state, *args, max_retries=tries, **kwargs)

    def _ensure_retryable(self, func: Any, *args: Any, max_retries: int | None = None, **kwargs: Any) -> Any:
        tries = max_retries if max_retries is not None else _TRIES_OF_A_TASK if _in_pool() else _TRIES
        if not breaker.on_event_loop():
            return super()._ensure_retryable(func, *args, max_retries=tries, **kwargs)
        if breaker.is_away():
            raise OperationalError("PostgreSQL did not answer a moment ago")
        try:
            return super()._ensure_retryable(func, *args, max_retries=tries, **kwargs)
        except (OperationalError, InterfaceError, BackendError):
            breaker.trip()
            raise

    def mark_as_failure(self, task_id: str, *args: Any, **kwargs: Any) -> None:
        """Celery's, but a database that is away does not take the place of the task's own exception: its letter repairs the row."""
        try:
            super().mark_as_failure(task_id, *args, **kwargs)
        except (DatabaseError, BackendStoreError):
            logger.exception("result.not_stored", extra={"task_id": task_id})

    def mark_as_revoked(self, task_id: str, *args: Any, **kwargs: Any) -> None:
        """Celery's, but a database that is away does not end the worker's main process: its letter repairs the row."""
        try:
            super().mark_as_revoked(task_id, *args, **kwargs)
        except (DatabaseError, BackendStoreError):
            logger.exception("result.not_stored", extra={"task_id": task_id})

    # --- What has ended, for chords and replays ---------------------------------------------------------------------

    def standing(self, task_ids: list[str]) -> Standing:
        with connections[router.db_for_write(TaskResult)].cursor() as cursor:
            cursor.execute(_STANDING, [task_ids])
            unfinished, dead = cursor.fetchone()
        return Standing(unfinished or "", dead or "")

    def returned(self, task_ids: list[str]) -> dict[str, Any]:
        rows = TaskResult.objects.filter(task_id__in=task_ids).only("task_id", "result", "content_encoding")
        return {row.task_id: self.decode_content(row, row.result) for row in rows}

    def forget_failures(self, task_ids: Collection[str]) -> None:
        with connections[router.db_for_write(TaskResult)].cursor() as cursor:
            cursor.execute(_FORGET, [list(task_ids)])

    def ready(self, task_ids: Collection[str]) -> dict[str, tuple[str, datetime]]:
        """{task id: (state, when)} of those that have ended."""
        with connections[router.db_for_write(TaskResult)].cursor() as cursor:
            cursor.execute(_READY, [list(task_ids), list(states.READY_STATES)])
            return {task_id: (status, done) for task_id, status, done in cursor.fetchall()}


# The ids are one array: a thousand parameters in an IN take a redrive ten times as long (29 ms, not 2).
_READY = f"SELECT task_id, status, date_done FROM {_TABLE} WHERE task_id = ANY(%s) AND status = ANY(%s)"  # noqa: S608
_FORGET = f"""
    UPDATE {_TABLE} SET status = 'PENDING', result = NULL, traceback = NULL, date_started = NULL
     WHERE task_id = ANY(%s) AND status NOT IN ('SUCCESS', 'PENDING')
"""  # noqa: S608

# The unfinished one by lot: of 10,000 parts a chord looks at some fifteen, in whatever order they end.
_STANDING = f"""
    WITH member AS MATERIALIZED (
        SELECT wanted.id, wanted.place, COALESCE(result.status, 'PENDING') AS status
          FROM unnest(%s::text[]) WITH ORDINALITY AS wanted (id, place)
          LEFT JOIN {_TABLE} result ON result.task_id = wanted.id)
    SELECT (SELECT id FROM member WHERE status NOT IN ('SUCCESS', 'FAILURE', 'REVOKED') ORDER BY random() LIMIT 1),
           (SELECT id FROM member WHERE status IN ('FAILURE', 'REVOKED') ORDER BY place LIMIT 1)
"""  # noqa: S608


def _in_pool() -> bool:
    """Whether a task that may wait asks: in a process or a thread of a pool, not on the worker's event loop (the solo pool), not in the web."""
    if str(current_process()._name) != "MainProcess":
        return True
    return get_current_task() is not None and not breaker.on_event_loop()


def _execute_prepared(connection: Any, values: tuple[Any, ...]) -> None:
    """Past Django's cursor, which binds values in Python and asks for a connection's health: a lost one is noticed by the statement."""
    connection.ensure_connection()
    raw: psycopg.Connection[Any] = connection.connection
    raw.prepare_threshold = 5  # Django turns prepared statements off; its own cursors never make any
    with psycopg.Cursor(raw) as cursor:
        cursor.execute(_STORE, values, prepare=True)
