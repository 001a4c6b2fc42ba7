"""Create, change, enable and disable schedules."""

import copy
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _
from django_celery_beat.models import ClockedSchedule, CrontabSchedule, IntervalSchedule, PeriodicTasks, SolarSchedule

from schedules import trail
from schedules.due import BadTiming, Cron, Every, Once, Solar, Timing
from schedules.models import Policy, Schedule, Unusable
from schedules.spec import DEFAULTS, POLICY, Change, changes, policy_of, spec_of

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
    elif isinstance(timing, Solar):
        spec = {"event": timing.event, "latitude": _degrees(timing.latitude), "longitude": _degrees(timing.longitude)}
        schedule.solar = SolarSchedule.objects.filter(**spec).first() or SolarSchedule(**spec)
    else:
        spec = {"clocked_time": timing.at}
        schedule.clocked = ClockedSchedule.objects.filter(**spec).first() or ClockedSchedule(**spec)
    schedule.one_off = isinstance(timing, Once) or (schedule.one_off and not was_once)


@transaction.atomic
def save(schedule: Schedule, *, by: User | None = None) -> list[Change]:
    """Write a schedule and, when it is new, the row of its timing. Beat hears of it when this commits. Returns what changed.

    A schedule that got another timing, or was off, counts from now: what it would have missed does not run by surprise.
    With `by` the edit is put on its trail.
    """
    if schedule.scheduler.pk is None:
        schedule.scheduler.save()
    before = _saved(schedule)
    was = spec_of(before) if before else {}
    if before is None:
        schedule.save()
    else:
        fields = {field.name for field in Schedule._meta.concrete_fields if not field.primary_key} - RUN_FIELDS
        fields.discard(
            "date_changed"
        )  # what has not run yet counts from it, and must not begin anew for the sake of other words
        if counts_anew(before, schedule):
            schedule.last_run_at = None
            fields.add("last_run_at")
            fields.add("date_changed")
            if schedule.one_off:
                # Beat takes a one-off with a count for one that has run.
                schedule.total_run_count = 0
                fields.add("total_run_count")
        schedule.save(update_fields=fields)
    _save_policy(schedule)
    found = changes(was, spec_of(schedule))
    if by:
        trail.edited(schedule, by, found, new=before is None)
    return found


def as_edited(schedule: Schedule) -> Schedule:
    """A copy that computes its next runs as if this edit were saved now."""
    before = _saved(schedule)
    after = copy.copy(schedule)
    if before and counts_anew(before, schedule):
        after.last_run_at = after.date_changed = None
    return after


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
            trail.acted(schedule, by, "act_enabled" if on else "act_disabled")
    return bool(changed)


def switch_many(schedules: Iterable[Schedule], *, on: bool, by: User) -> tuple[int, list[NotEnabled]]:
    """Enable or disable them, each as `switch` does. Returns how many that changed, and why others could not be enabled."""
    changed, refused = 0, []
    for schedule in schedules:
        try:
            changed += switch(schedule, on=on, by=by)
        except NotEnabled as refusal:
            refused.append(refusal)
    return changed, refused


def sharers(schedule: Schedule) -> QuerySet[Schedule]:
    """The other schedules whose time is kept in the same row. An edit gives this one a row of its own and leaves theirs alone."""
    same = Q()
    for field in ("crontab_id", "interval_id", "clocked_id", "solar_id"):
        if pk := getattr(schedule, field):
            same |= Q(**{field: pk})
    others: QuerySet[Schedule] = Schedule.objects.exclude(pk=schedule.pk).order_by("name")
    return others.filter(same) if same else others.none()


def _degrees(angle: float) -> Decimal:
    return Decimal(f"{angle:.6f}")  # as many places as the column has


def _saved(schedule: Schedule) -> Schedule | None:
    found: Schedule | None = Schedule.objects.filter(pk=schedule.pk).first() if schedule.pk else None
    return found


def _save_policy(schedule: Schedule) -> None:
    """Only what the form decides: a pause is another act. No row is made for what is meant anyway."""
    policy = policy_of(schedule)
    decided = {name: getattr(policy, name) for name in POLICY}
    if Policy.objects.filter(schedule_id=schedule.pk).update(**decided) or decided == {
        name: DEFAULTS[name] for name in POLICY
    }:
        return
    Policy.objects.create(schedule_id=schedule.pk, **decided)


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
        same = before.timing == after.timing
    except BadTiming:  # the row was unreadable until now
        same = False
    return not same or before.start_time != after.start_time or (after.enabled and not before.enabled)
