"""Finds the schedules that cannot run, marks them with the reason, and unmarks those that were mended."""

import logging
from collections.abc import Iterable, Sequence
from typing import Any

from celery import current_app
from psycopg.errors import LockNotAvailable

from schedules import due, ledger
from schedules.election import Seat
from schedules.message import Unusable, compose, refused_arguments
from schedules.plan import Plan, key_of
from schedules.reasons import Reason, columns

logger = logging.getLogger(__name__)

# Rows a heartbeat: 100,000 schedules are looked through in a few minutes, at well under one per cent of a core.
SLICE = 300


class Checkup:
    """What `Broken` says, kept true."""

    def __init__(self, seat: Seat, plan: Plan) -> None:
        self.seat = seat
        self.plan = plan
        self._at = 0

    def note(self) -> None:
        """Write down what the plan came across."""
        broken, self.plan.broken = self.plan.broken, {}
        self._mark(broken)

    def check(self, ids: Iterable[int]) -> None:
        """Look at rows that were just edited."""
        wanted = list(ids)
        broken = self._find(ledger.rows(self.seat.connection, wanted))
        self._mark(broken)
        self._write(ledger.MEND, [pk for pk in wanted if pk not in broken])
        self.plan.broken = {}

    def slice(self) -> None:
        """Look at the next rows, round and round: at what no notification told of, too."""
        rows = ledger.slice_of_rows(self.seat.connection, self._at, SLICE)
        stale = [row.id for row in rows if self.plan.differs(row)]
        if stale:
            self.plan.reload(stale)
        broken = self._find(rows)
        self._mark(broken)
        end = rows[-1].id if len(rows) == SLICE else None
        self._write(ledger.MEND_BETWEEN, self._at, end, end, list(broken))
        self._at = end or 0
        self.plan.broken = {}

    def _find(self, rows: Sequence[Any]) -> dict[int, list[Reason]]:
        broken = {}
        for row in rows:
            try:
                self._check(row)
            except Unusable as problem:
                broken[row.id] = problem.why
        return broken

    def _check(self, row: Any) -> None:
        message = compose(row)
        timing = self.plan.timing(key_of(row))
        task = current_app.tasks.get(row.task)
        try:
            timing.after(due.anchor(timing, last=row.last, changed=row.changed, start=row.start))
            if task is not None and task.typing:
                check_arguments: Any = task.__header__  # type: ignore[attr-defined]  # celery-types is behind
                check_arguments(*message.args, **message.kwargs)
        except TypeError as problem:
            raise refused_arguments(row.task, problem) from problem
        except Exception as problem:  # whatever a row holds, it must not stop the others
            raise Unusable("bad_time", text=str(problem)) from problem

    def _mark(self, broken: dict[int, list[Reason]]) -> None:
        if not broken:
            return
        reasons, codes = zip(*columns(broken.values()), strict=True)
        if self._write(ledger.BREAK, list(broken), list(reasons), list(codes)):
            for pk, reason in zip(broken, reasons, strict=True):
                logger.error("schedule.broken", extra={"schedule_id": pk, "reason": reason})

    def _write(self, statement: str, *values: Any) -> int:
        """Execute it; a row that somebody holds is marked in another round. Returns how many rows it changed."""
        try:
            return self.seat.connection.execute(statement, values).rowcount
        except LockNotAvailable:
            logger.info("schedules.row_is_held")
            return 0
