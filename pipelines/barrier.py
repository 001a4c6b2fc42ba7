"""What both result backends share: chords that wait in PostgreSQL, can be re-opened, and need only to be told what has ended."""

import logging
from collections.abc import Collection, Iterable
from typing import Any, NamedTuple

from celery import states
from celery.backends.base import _create_fake_task_request, _result_errbacks
from celery.result import GroupResult
from django.db import InterfaceError, OperationalError, connection, transaction
from kombu.utils.functional import maybe_list

from deadletters.replay.downstream import Part
from pipelines import chords

logger = logging.getLogger(__name__)


class Standing(NamedTuple):
    """Of some tasks: any one that has not ended, and the first that failed; "" for none."""

    unfinished: str
    dead: str


class Barrier:
    """A result backend's side of chords.py. A subclass says which of some tasks have ended, and how."""

    app: Any
    store_result: Any

    def standing(self, task_ids: list[str]) -> Standing:
        """Where these tasks stand at one moment."""
        raise NotImplementedError

    def returned(self, task_ids: list[str]) -> dict[str, Any]:
        """{task id: what it returned} of these tasks, which have all succeeded."""
        raise NotImplementedError

    def forget_failures(self, task_ids: Collection[str]) -> None:
        """These tasks have not run yet, whatever was said of them; one that succeeded stays as it is."""
        raise NotImplementedError

    def reopen(self, task_ids: Iterable[str], parts: Iterable[Part]) -> None:
        """Undo the failure of tasks and chords that a replay lets run again; as part of the caller's transaction where there is one."""
        with transaction.atomic():
            chords.reopen(part.group_id for part in parts)
            self.forget_failures(list(task_ids))

    def missing_chords(self, group_ids: Collection[str]) -> set[str]:
        """Which of these chords nothing is known of (any more)."""
        return chords.missing(group_ids)

    # --- Called by Celery -------------------------------------------------------------------------------------------

    def apply_chord(self, header_result_args: Any, body: Any, **_: Any) -> None:
        """Record the barrier before the header's first part is sent."""
        header = (
            header_result_args
            if isinstance(header_result_args, GroupResult)
            else GroupResult(*header_result_args, app=self.app)
        )
        chords.record(header, body)

    def set_chord_size(self, group_id: str, chord_size: int) -> None:
        """Nothing is counted."""

    def add_to_chord(self, chord_id: str, result: Any) -> None:
        """A header is as long as it was sent.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError("A chord's header cannot grow; let the task replace itself with a group instead.")

    def on_chord_part_return(self, request: Any, state: str, result: Any, **_: Any) -> None:
        """Recompute the barrier after a part has returned, dead or alive. The part is fine, whatever becomes of that."""
        if not request.group or not request.id:
            return
        try:
            if state == states.SUCCESS and self._is_ignored(request):
                self.store_result(request.id, result, state, request=request)
            _once_more(chords.advance, self, request.group)
        except (OperationalError, InterfaceError):
            logger.exception("chord.left_to_the_sweep", extra={"group_id": request.group, "task_id": request.id})

    # A chord waits for results; of a part that ignores its own, or that stands behind such a one in a chain, they are kept all the same.

    def _is_ignored(self, request: Any) -> bool:
        task = self.app.tasks.get(getattr(request, "task", None))
        return bool(getattr(request, "ignore_result", False) or getattr(task, "ignore_result", False))

    def mark_as_failure(self, task_id: str, *args: Any, **kwargs: Any) -> None:
        """Celery's; a death before or in a part of a chord is stored."""
        if _is_awaited(kwargs.get("request")):
            kwargs["store_result"] = True
        super().mark_as_failure(task_id, *args, **kwargs)  # type: ignore[misc]  # a mixin

    def mark_as_revoked(self, task_id: str, *args: Any, **kwargs: Any) -> None:
        """Celery's; a part of a chord that was revoked is stored."""
        if _is_awaited(kwargs.get("request")):
            kwargs["store_result"] = True
        super().mark_as_revoked(task_id, *args, **kwargs)  # type: ignore[misc]

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


def _is_awaited(request: Any) -> bool:
    """Whether a chord waits for this task, or for one behind it in its chain."""
    behind = getattr(request, "chain", None)
    steps = behind if isinstance(behind, (list, tuple)) else ()
    return bool(getattr(request, "chord", None) or any("chord" in (step.get("options") or {}) for step in steps))


def _once_more(call: Any, *arguments: Any) -> None:
    """A connection that was lost since its last use is opened anew; a database that is away is the sweep's affair."""
    try:
        call(*arguments)
    except (OperationalError, InterfaceError):
        if connection.in_atomic_block:
            raise
        connection.close()
        call(*arguments)
