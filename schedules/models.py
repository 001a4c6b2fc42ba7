"""Schedules live in django-celery-beat's tables; here they get their name, their words and their next runs."""

from collections.abc import Iterator
from datetime import datetime
from functools import cached_property
from itertools import islice, takewhile
from zoneinfo import ZoneInfo

from celery import current_app
from django.db import DatabaseError, InterfaceError
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django_celery_beat.models import PeriodicTask

from schedules import due
from schedules.history import Beat, Broken, Occurrence
from schedules.message import Unusable, compose
from schedules.policy import Policy

__all__ = ["Beat", "Broken", "Occurrence", "Policy", "Schedule", "Unusable"]


class Schedule(PeriodicTask):  # type: ignore[misc]  # django-celery-beat ships no types
    """A row that enqueues a task by the clock."""

    class Meta:
        proxy = True
        verbose_name = gettext_lazy("schedule")
        verbose_name_plural = gettext_lazy("schedules")
        permissions = (
            ("run_schedule", "Can run schedules now"),
            ("enable_schedule", "Can turn schedules on and off"),
        )

    def __str__(self) -> str:
        return str(self.name)

    @property
    def timing(self) -> due.Timing | None:
        """Its cron line, interval, moment or event of the sun; None when it has no time at all.

        Raises:
            BadTiming: what is stored cannot be read.
        """
        if self.crontab:
            return due.Cron.parse(self.cron_line, self.zone)
        if self.interval:
            return due.Every(number=self.interval.every, period=self.interval.period)
        if self.clocked:
            return due.Once(at=self.clocked.clocked_time.astimezone(self.zone))
        if self.solar:
            return due.Solar(
                event=self.solar.event, latitude=float(self.solar.latitude), longitude=float(self.solar.longitude)
            )
        return None

    @property
    def cron_line(self) -> str:
        """`minute hour day month weekday` as stored; five fields even when one was stored with spaces."""
        row = self.crontab
        fields = (row.minute, row.hour, row.day_of_month, row.month_of_year, row.day_of_week)
        return " ".join(field.replace(" ", "") for field in fields)

    @property
    def zone(self) -> ZoneInfo:
        """The zone its times are told in."""
        return ZoneInfo(str(self.crontab.timezone if self.crontab else current_app.conf.timezone))

    @cached_property
    def words(self) -> str:
        """When it runs, for people."""
        try:
            timing = self.timing
        except due.BadTiming:
            return str(self.scheduler)
        return timing.words() if timing else str(self.scheduler or _("No time is set"))

    def next_runs(self) -> Iterator[datetime]:
        """Its next runs (UTC) as beat will send them, also while it is off. The first is now when one is overdue."""
        timing = self.timing
        assert timing is not None
        now = timezone.now().timestamp()
        last, changed, start = (
            moment and moment.timestamp() for moment in (self.last_run_at, self.date_changed, self.start_time)
        )
        anchor = now
        if self.enabled or isinstance(timing, due.Once):
            anchor = due.anchor(timing, last=last, changed=changed or now, start=start)
        elif start and start > now:
            anchor = due.anchor(timing, last=None, changed=now, start=start)
        runs = due.next_runs(timing, anchor=anchor, now=now)
        runs = islice(runs, 1) if self.one_off else runs
        return takewhile(lambda run: not self.expires or run < self.expires, runs)

    @cached_property
    def next_run(self) -> datetime | None:
        """The next run of an enabled, usable schedule."""
        return next(self.next_runs(), None) if self.enabled and not self.problem else None

    @cached_property
    def problem(self) -> str:
        """Why beat skips it, or nothing."""
        try:
            self.check_usable()
        except Unusable as problem:
            return str(problem)
        return ""

    def check_usable(self) -> None:
        """Whether beat can use it: JSON of the right types and a time that comes.

        Raises:
            Unusable: it cannot.
        """
        compose(self)
        if not self.scheduler:
            raise Unusable("no_time")
        try:
            timing = self.timing
            assert timing is not None
            if isinstance(timing, due.Every) and timing.seconds < 1:
                raise Unusable("too_often")
            if timing.after(max(0.0, self.start_time.timestamp()) if self.start_time else 0.0) is None:
                raise Unusable("never")
        except (Unusable, DatabaseError, InterfaceError):
            raise
        except Exception as problem:  # whatever a row holds, it must not stop the others
            lines = str(problem).strip().splitlines()
            raise Unusable("bad_time", text=lines[0] if lines else repr(problem)) from problem
