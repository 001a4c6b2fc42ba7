"""The PostgreSQL result backend: one statement a result, and chords that can be re-opened.

The tables are django-celery-results', so its admin, and `AsyncResult` of any process, read them as ever.
"""

import logging
from collections.abc import Iterable
from typing import Any

from celery import states
from celery.backends.base import _create_fake_task_request, _result_errbacks, get_current_task
from celery.result import GroupResult
from django.db import connections, router
from django.utils import timezone
from django_celery_results.backends.database import DatabaseBackend
from django_celery_results.models import TaskResult
from kombu.utils.functional import maybe_list

from deadletters.envelope import clean
from pipelines import chords

logger = logging.getLogger(__name__)

# A later report without a value (STARTED knows no arguments, say) keeps what an earlier one said.
_KEPT = ("periodic_task_name", "task_name", "task_args", "task_kwargs", "worker", "date_started")
_RENEWED = ("status", "content_type", "content_encoding", "result", "date_done", "traceback", "meta")

_TABLE = TaskResult._meta.db_table
# S608: every name is ours; all values are parameters. A late failure (a copy after a visibility time-out, a worker lost after its
# child stored SUCCESS) never overwrites a success.
_STORE = f"""
    INSERT INTO {_TABLE} (task_id, date_created, {", ".join(_KEPT + _RENEWED)})
    VALUES (%s, %s, {", ".join(["%s"] * len(_KEPT + _RENEWED))})
    ON CONFLICT (task_id) DO UPDATE SET
        {", ".join(f"{name} = COALESCE(excluded.{name}, {_TABLE}.{name})" for name in _KEPT)},
        {", ".join(f"{name} = excluded.{name}" for name in _RENEWED)}
    WHERE {_TABLE}.status <> 'SUCCESS' OR excluded.status = 'SUCCESS'
"""  # noqa: S608


class ResultBackend(DatabaseBackend):  # type: ignore[misc]  # django-celery-results ships no types
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
        content_type, content_encoding, encoded = self.encode_content(result)
        _, _, meta = self.encode_content(
            {**self._get_meta_from_request(request), "children": self.current_task_children(request)}
        )
        extended = self._get_extended_properties(request, traceback)
        now = timezone.now()
        values = {
            **{name: extended.get(name) for name in _KEPT},
            "date_started": now if status == states.STARTED else None,
            "status": status,
            "content_type": content_type,
            "content_encoding": content_encoding,
            "result": encoded,
            "date_done": now,
            # PostgreSQL refuses NUL and unpaired surrogates, and the task's true exception would be hidden behind its DataError.
            "traceback": clean(str(traceback)) if traceback else None,
            "meta": meta,
        }
        with connections[using or router.db_for_write(TaskResult)].cursor() as cursor:
            cursor.execute(_STORE, [task_id, now, *(values[name] for name in _KEPT + _RENEWED)])
        return encoded

    # --- Chords -----------------------------------------------------------------------------------------------------

    def apply_chord(self, header_result_args: Any, body: Any, **_: Any) -> None:
        """Record the barrier before the header's first part is sent."""
        header = (
            header_result_args
            if isinstance(header_result_args, GroupResult)
            else GroupResult(*header_result_args, app=self.app)
        )
        chords.record(header, body)

    def on_chord_part_return(self, request: Any, state: str, result: Any, **_: Any) -> None:  # noqa: ARG002  (Celery's signature)
        """Recompute the barrier after a part has returned, dead or alive."""
        if request.group and request.id:
            chords.advance(self, request.group)

    def reopen(self, task_ids: Iterable[str], group_ids: Iterable[str]) -> None:
        """Undo the failure of tasks and chords that a replay lets run again. Part of the caller's transaction; never undoes a success."""
        failed = TaskResult.objects.filter(task_id__in=list(task_ids)).exclude(
            status__in=(states.SUCCESS, states.PENDING)
        )
        failed.update(status=states.PENDING, result=None, traceback=None, date_started=None)
        chords.reopen(group_ids)

    def _handle_group_chord_error(self, group_callback: Any, backend: Any, exc: BaseException | None = None) -> None:
        """Fail each task of a body that is a group, as Celery does, but without revoking them.

        A revoked id stays in every worker's memory for three hours: the body would be dropped after the header was replayed.
        """
        cause = getattr(exc, "__cause__", None) or exc
        frozen = group_callback.freeze()
        own = maybe_list(group_callback.options.get("link_error")) or []
        of_task = dict(_result_errbacks(task, self.app) for task in group_callback.tasks)
        for result in getattr(frozen, "results", None) or []:
            errbacks: list[Any] = []
            errbacks.extend(errback for errback in (*of_task.get(result.id, ()), *own) if errback not in errbacks)
            try:
                backend._call_task_errbacks(_create_fake_task_request(result.id, errbacks), cause, None)
            except Exception:
                logger.exception("chord.errback_failed", extra={"task_id": result.id})
            backend.fail_from_current_stack(result.id, exc=cause)
        if frozen.id:
            backend.store_result(frozen.id, cause, states.FAILURE)
