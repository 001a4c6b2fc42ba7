"""Which schedules should have been sent by now and were not: beat, the database or the broker was away."""

from datetime import UTC, datetime, timedelta
from typing import Any

from django.db.models import QuerySet
from django.db.models.expressions import RawSQL
from django.utils import timezone
from django_celery_beat.models import CrontabSchedule, SolarSchedule

from schedules import due
from schedules.due import Timing
from schedules.history import LATE
from schedules.models import Schedule
from schedules.spec import policy_of

# How far to look back for the last due time of a cron line: a minute first, at last eight years (29 February of 1900 to 1908).
BACK = (timedelta(minutes=1), timedelta(minutes=15), timedelta(hours=3), timedelta(days=1), timedelta(days=8), timedelta(days=62), timedelta(days=367), timedelta(days=2923))  # fmt: skip

# One due time a row: of an interval or a moment by arithmetic, of a cron line or the sun the newest one, which was computed for each
# different line. The rules are those of due.anchor.
SQL = """
SELECT task.id
  FROM django_celery_beat_periodictask task
  LEFT JOIN schedules_policy policy ON policy.schedule_id = task.id
  LEFT JOIN django_celery_beat_intervalschedule every ON every.id = task.interval_id
  LEFT JOIN django_celery_beat_clockedschedule once ON once.id = task.clocked_id
  LEFT JOIN unnest(%s::int[], %s::timestamptz[]) AS cron(id, due) ON cron.id = task.crontab_id
  LEFT JOIN unnest(%s::int[], %s::timestamptz[]) AS sun(id, due) ON sun.id = task.solar_id
 CROSS JOIN LATERAL (SELECT make_interval(secs => LEAST(every.every::float8 * CASE every.period
         WHEN 'days' THEN 86400 WHEN 'hours' THEN 3600 WHEN 'minutes' THEN 60 WHEN 'seconds' THEN 1 ELSE 0.000001 END, 1e9)) AS pause) step
 CROSS JOIN LATERAL (SELECT COALESCE(task.last_run_at,
         CASE WHEN once.id IS NULL THEN task.date_changed ELSE '-infinity' END) AS since) base
 CROSS JOIN LATERAL (SELECT CASE
         WHEN every.id IS NULL THEN COALESCE(once.clocked_time, cron.due, sun.due)
         WHEN task.start_time > base.since THEN task.start_time
         ELSE base.since + step.pause END AS due) own
 WHERE task.enabled AND policy.paused_at IS NULL
   AND own.due < %s - make_interval(secs => COALESCE(policy.jitter, 0))
   AND own.due > base.since
   AND (task.start_time IS NULL OR own.due >= task.start_time)
   AND (task.expires IS NULL OR own.due < task.expires)
   AND NOT EXISTS (SELECT FROM schedules_broken broken WHERE broken.schedule_id = task.id)
"""

# Timing -> its newest due time (epoch seconds), and until when that stays the newest.
_newest: dict[Timing, tuple[float, float]] = {}
REMEMBERED = 20_000
NEVER = float("inf")


def is_late(schedule: Schedule) -> bool:
    """Whether this one is late; it is on, not paused, and can run."""
    missed = first_missed(schedule)
    return missed is not None and missed + policy_of(schedule).jitter < (timezone.now() - LATE).timestamp()


def first_missed(schedule: Schedule) -> float | None:
    """The first due time (epoch seconds) after its last run, be it past or to come; None when there is none."""
    timing = schedule.timing
    assert timing is not None
    last, changed, start = (
        moment and moment.timestamp() for moment in (schedule.last_run_at, schedule.date_changed, schedule.start_time)
    )
    first = timing.after(due.anchor(timing, last=last, changed=changed, start=start))
    return None if first is None or (schedule.expires and first >= schedule.expires.timestamp()) else first


def some_late(number: int) -> list[tuple[Schedule, datetime]]:
    """At most `number` of the schedules that are late, each with the time at which it should have been sent."""
    rows = late(Schedule.objects.select_related("crontab", "interval", "clocked", "solar", "policy")).order_by("pk")
    # One that cannot run at all is broken; beat may not have said so yet.
    found = [(row, missed) for row in rows[:number] if not row.problem and (missed := first_missed(row)) is not None]
    return [(row, datetime.fromtimestamp(missed, UTC)) for row, missed in sorted(found, key=lambda one: one[1])]


def late(schedules: QuerySet[Schedule]) -> QuerySet[Schedule]:
    """Those of `schedules` that are late by now."""
    moment = timezone.now() - LATE
    crons = _due_times("crontab", CrontabSchedule, moment.timestamp())
    suns = _due_times("solar", SolarSchedule, moment.timestamp())
    return schedules.filter(pk__in=RawSQL(SQL, (*crons, *suns, moment)))  # noqa: S611  (no text of anybody's is in it)


def _due_times(field: str, model: type[Any], moment: float) -> tuple[list[int], list[datetime]]:
    """(ids, newest due times) of the rows of `model` that enabled schedules use."""
    used = Schedule.objects.filter(enabled=True).exclude(**{field: None}).order_by().values(f"{field}_id")
    found = {}
    for row in model.objects.filter(pk__in=used):
        try:
            timing = Schedule(**{field: row}).timing
            newest = _newest_due(timing, moment) if timing else -NEVER
        except (ValueError, ArithmeticError):  # a row that cannot run is broken, never late
            continue
        if newest > -NEVER:
            found[row.pk] = datetime.fromtimestamp(newest, UTC)
    return list(found), list(found.values())


def _newest_due(timing: Timing, moment: float) -> float:
    """The newest due time up to `moment`; minus infinity when there is none within eight years."""
    newest, following = _newest.get(timing, (NEVER, -NEVER))
    if newest <= moment < following:
        return newest
    newest, following = -NEVER, NEVER
    for back in BACK:
        found, _count = due.between(timing, moment - back.total_seconds(), moment, limit=1)
        if found:
            newest = found[0]
            break
    following = timing.after(moment) or NEVER
    if len(_newest) >= REMEMBERED:
        _newest.clear()
    _newest[timing] = newest, following
    return newest
