"""Create, change, enable and disable schedules."""

from typing import Any

from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _
from django_celery_beat.models import ClockedSchedule, CrontabSchedule, IntervalSchedule, PeriodicTasks, SolarSchedule

from schedules.due import BadTiming, Cron, Every, Once, Timing
from schedules.models import Schedule, Unusable

# Beat's own columns: an edit leaves them alone, or a run of the same second would be forgotten.
RUN_FIELDS = frozenset({"last_run_at", "total_run_count"})


class NotEnabled(Exception):
    """The schedule would never run. str() says why and what to do."""


def place(schedule: Schedule, timing: Timing) -> None:
    """Give `schedule` the row of `timing`, found or new (not yet saved). Rows are shared, so none is ever edited."""
    was_once = schedule.clocked is not None
    schedule.crontab = schedule.interval = schedule.clocked = schedule.solar = None
    if isinstance(timing, Cron):
        names = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week")
        spec: dict[str, Any] = {**dict(zip(names, timing.fields, strict=True)), "timezone": timing.zone.key}
        schedule.crontab = CrontabSchedule.objects.filter(**spec).first() or CrontabSchedule(**spec)
    elif isinstance(timing, Every):
        spec = {"every": timing.number, "period": timing.period}
        schedule.interval = IntervalSchedule.objects.filter(**spec).first() or IntervalSchedule(**spec)
    elif isinstance(timing, Once):
        spec = {"clocked_time": timing.at}
        schedule.clocked = ClockedSchedule.objects.filter(**spec).first() or ClockedSchedule(**spec)
    else:
        spec = {"event": timing.event, "latitude": timing.latitude, "longitude": timing.longitude}
        schedule.solar = SolarSchedule.objects.filter(**spec).first() or SolarSchedule(**spec)
    schedule.one_off = isinstance(timing, Once) or (schedule.one_off and not was_once)


@transaction.atomic
def save(schedule: Schedule) -> None:
    """Write a schedule and, when it is new, the row of its timing. Beat hears of it when this commits.

    A schedule that got another timing, or was off, counts from now: what it would have missed does not run by surprise.
    """
    if schedule.scheduler.pk is None:
        schedule.scheduler.save()
    before = Schedule.objects.filter(pk=schedule.pk).first() if schedule.pk else None
    if before is None:
        schedule.save()
        return
    fields = {field.name for field in Schedule._meta.concrete_fields if not field.primary_key} - RUN_FIELDS
    if counts_anew(before, schedule):
        schedule.last_run_at = None
        fields.add("last_run_at")
        if schedule.one_off:
            # Beat takes a one-off with a count for one that has run.
            schedule.total_run_count = 0
            fields.add("total_run_count")
    schedule.save(update_fields=fields)


def switch(schedule: Schedule, *, on: bool, by: User) -> bool:
    """Enable or disable it. Returns whether that changed anything; enabled, it counts from now.

    Raises:
        NotEnabled: it cannot run, or its one moment has passed.
    """
    if on:
        _check_can_run(schedule)
    fresh = {"last_run_at": None, "date_changed": timezone.now()} if on else {}
    with transaction.atomic():
        changed = Schedule.objects.filter(pk=schedule.pk, enabled=not on).update(enabled=on, **fresh)
        if changed:
            PeriodicTasks.update_changed()
            record(schedule, by, "Enabled." if on else "Disabled.")
    return bool(changed)


def record(schedule: Schedule, by: User, message: str) -> None:
    """Put an act on the schedule's trail."""
    LogEntry.objects.log_actions(by.pk, [schedule], CHANGE, message, single_object=True)


def _check_can_run(schedule: Schedule) -> None:
    try:
        schedule.check_usable()
        timing = schedule.timing
    except (Unusable, BadTiming) as problem:
        raise NotEnabled(
            _("“%(name)s” cannot run: %(reason)s Edit it first.") % {"name": schedule.name, "reason": problem}
        ) from None
    now = timezone.now()
    if (isinstance(timing, Once) and timing.at <= now) or (schedule.expires and schedule.expires <= now):
        raise NotEnabled(_("The time of “%s” has passed. Give it a new one first.") % schedule.name)


def counts_anew(before: Schedule, after: Schedule) -> bool:
    """Whether an edit makes its next run count from now: another time, another start, or it was off."""
    try:
        same = before.timing == after.timing and before.solar_id == after.solar_id
    except BadTiming:  # the row was unreadable until now
        same = False
    return not same or before.start_time != after.start_time or (after.enabled and not before.enabled)
