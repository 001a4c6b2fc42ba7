"""The beat scheduler: django-celery-beat's, with every row on its own feet and a database that may go away."""

import logging
import time
from typing import Any

from celery.beat import SchedulingError
from celery.schedules import schedstate
from django.db import DatabaseError, InterfaceError, close_old_connections
from django.utils import timezone
from django_celery_beat.schedulers import DatabaseScheduler, ModelEntry
from kombu.exceptions import OperationalError as BrokerError

from schedules.models import Schedule, Unusable

logger = logging.getLogger(__name__)

AWAY = (DatabaseError, InterfaceError)
# Edits made behind the models' back (SQL, QuerySet.update) are noticed after this many seconds.
REREAD = 300


class RowEntry(ModelEntry):  # type: ignore[misc]  # django-celery-beat ships no types
    """One row in beat's memory. It writes two columns of its row, never an operator's."""

    def __init__(self, model: Schedule, app: Any = None) -> None:
        """Raises Unusable when beat could not run it."""
        model.check_usable()
        anchor = model.anchor
        super().__init__(model, app=app)
        self.last_run_at = model.last_run_at = anchor

    def is_due(self) -> schedstate:
        """Whether it must be sent, and in how many seconds to ask again."""
        start = self.model.start_time
        if self.model.enabled and start and (wait := (start - timezone.now()).total_seconds()) > 0:
            return schedstate(is_due=False, next=wait)
        return super().is_due()  # type: ignore[no-any-return]

    def save(self) -> None:
        """Note the last run and the count. The stock entry writes the whole row, and an edit in between is lost."""
        Schedule.objects.filter(pk=self.model.pk).update(
            last_run_at=self.model.last_run_at, total_run_count=self.model.total_run_count
        )

    def _disable(self, model: Schedule) -> None:
        model.enabled = False
        Schedule.objects.filter(pk=model.pk).update(enabled=False)

    @classmethod
    def from_entry(cls, name: str, app: Any = None, **entry: Any) -> "RowEntry":
        """An entry of the settings as a row. It is created once: what an operator made of it since then stays."""
        row = Schedule.objects.filter(name=name).first()
        return cls(row or Schedule.objects.create(name=name, **cls._unpack_fields(**entry)), app=app)


class Scheduler(DatabaseScheduler):  # type: ignore[misc]  # django-celery-beat ships no types
    """Notices an edit at its next look, skips rows that cannot run, and goes on with what it knows while PostgreSQL is away."""

    Entry = RowEntry
    Model = Schedule

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._schedule: dict[str, RowEntry] = {}
        self._seen: Any = None  # PeriodicTasks.last_update when the rows were read
        self._read_at: float | None = None
        self._away = False
        # A run is noted at once: after a kill, stock beat repeats what it sent in its last three minutes.
        super().__init__(*args, **{**kwargs, "sync_every_tasks": 1})

    @property
    def schedule(self) -> dict[str, RowEntry]:
        """Name -> entry of what is enabled."""
        try:
            self._refresh()
        except AWAY as problem:
            self._report_away(problem)
        else:
            if self._away:
                logger.info("schedules.database_back")
            self._away = False
        return self._schedule

    def enabled_models_qs(self) -> Any:
        """Every enabled row. Stock leaves out crontabs of other hours; one missed by hours then runs at the wrong hour of the next day."""
        return self.Model.objects.enabled()

    def all_as_schedule(self) -> dict[str, RowEntry]:
        """Name -> entry; a row that cannot run is reported and left out."""
        entries = {}
        for row in self.enabled_models():
            try:
                entries[row.name] = RowEntry(row, app=self.app)
            except Unusable as problem:
                logger.error("schedule.skipped", extra={"schedule": row.name, "reason": str(problem)})
        return entries

    def sync(self) -> None:
        """Write what was sent; what cannot be written now is written later."""
        try:
            self._write_dirty()
        except AWAY as problem:
            self._report_away(problem)

    def apply_entry(self, entry: RowEntry, producer: Any = None) -> None:
        """Send one message. Without a broker nothing else could be sent either, so it waits here for it; stock beat drops the run."""
        while not self._sent(entry, producer):
            time.sleep(self.max_interval)

    def _sent(self, entry: RowEntry, producer: Any) -> bool:
        facts = {"schedule": entry.name, "task": entry.task}
        try:
            message = self.apply_async(entry, producer=producer, advance=False)
        except SchedulingError as problem:
            if isinstance(problem.__context__, BrokerError):
                logger.warning("schedule.waits_for_broker", extra={**facts, "reason": str(problem.__context__)})
                return False
            logger.exception("schedule.not_sent", extra=facts)
        else:
            logger.info("schedule.sent", extra={**facts, "task_id": message.id})
        return True

    def _refresh(self) -> None:
        close_old_connections()
        # Read before the rows: an edit in between is seen again at the next look. Compared for difference, not for order:
        # the clocks of two web hosts differ.
        seen = self.Changes.last_change()
        fresh = self._read_at is not None and time.monotonic() - self._read_at < REREAD
        if fresh and seen == self._seen:
            return
        self._write_dirty()
        self._schedule = self.all_as_schedule()
        self._heap_invalidated = self._read_at is not None
        self._seen, self._read_at = seen, time.monotonic()

    def _write_dirty(self) -> None:
        for name in tuple(self._dirty):
            if entry := self._schedule.get(name):
                entry.save()
            self._dirty.discard(name)

    def _report_away(self, problem: Exception) -> None:
        if not self._away:
            lines = str(problem).strip().splitlines()
            logger.warning("schedules.database_away", extra={"reason": lines[0] if lines else repr(problem)})
        self._away = True
