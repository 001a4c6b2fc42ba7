"""The due times of a cron line in one time zone, as epoch seconds. Pure.

By every hour (`*`) means elapsed time: both passes of a doubled hour run, and an hour that is skipped has no runs.
By chosen hours means the clock on the wall: once for each matching time; in a doubled hour at its first pass, and a time that is
skipped runs at the next time that exists, together with others of the same gap.
"""

from bisect import bisect_left, bisect_right
from datetime import date, datetime, timedelta, tzinfo
from functools import lru_cache
from itertools import product
from typing import Any, NamedTuple

from celery.schedules import crontab

# The 29th of February falls on each weekday within 40 years, also across 2100.
NEVER = timedelta(days=366 * 41)
DAY = 86_400


class Fields(NamedTuple):
    """What the five fields of a cron line match, in order; `days` is who asks about day, month and weekday."""

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]


@lru_cache(maxsize=4096)
def read_fields(minute: str, hour: str, day: str, month: str, weekday: str) -> Fields:
    """The numbers that five fields stand for. Many schedules share them.

    Raises:
        ValueError, ParseException: Celery cannot read one.
    """
    line: Any = crontab(minute, hour, weekday, day, month)
    return Fields(
        tuple(sorted(line.minute)),
        tuple(sorted(line.hour)),
        frozenset(line.day_of_month),
        frozenset(line.month_of_year),
        frozenset(line.day_of_week),
    )


def after(fields: Fields, zone: tzinfo, moment: float) -> float | None:
    """The first due time later than `moment`; None when there is none within 41 years."""
    day = datetime.fromtimestamp(moment, zone).date()
    end = day + NEVER
    while day <= end:
        if day.month not in fields.months:
            day = date(day.year + day.month // 12, day.month % 12 + 1, 1)
            continue
        if day.day in fields.days and day.isoweekday() % 7 in fields.weekdays:
            found = _on(day, fields, zone, moment)
            if found is not None:
                return found
        day += timedelta(days=1)
    return None


def _on(day: date, fields: Fields, zone: tzinfo, moment: float) -> float | None:
    """The first due time of one local day after `moment`."""
    start, end = (datetime(d.year, d.month, d.day, tzinfo=zone) for d in (day, day + timedelta(days=1)))
    midnight = start.timestamp()
    if start.utcoffset() == end.utcoffset() and end.timestamp() - midnight == DAY:
        return _on_plain_day(fields, midnight, moment)
    times = _on_day_of_change(day, fields, zone)
    place = bisect_right(times, moment)
    return times[place] if place < len(times) else None


def _on_plain_day(fields: Fields, midnight: float, moment: float) -> float | None:
    # The first whole minute of the day that is later than the moment.
    minute = max(0, int((moment - midnight) // 60) + 1)
    hour, rest = divmod(minute, 60)
    place = bisect_left(fields.hours, hour)
    if place < len(fields.hours) and fields.hours[place] == hour:
        within = bisect_left(fields.minutes, rest)
        if within < len(fields.minutes):
            return midnight + hour * 3600 + fields.minutes[within] * 60
        place += 1
    if place < len(fields.hours):
        return midnight + fields.hours[place] * 3600 + fields.minutes[0] * 60
    return None


@lru_cache(maxsize=256)
def _on_day_of_change(day: date, fields: Fields, zone: tzinfo) -> list[float]:
    """Every due time of a day on which the clocks are changed."""
    elapsed = len(fields.hours) == 24
    found = set()
    for hour, minute in product(fields.hours, fields.minutes):
        wall = datetime(day.year, day.month, day.day, hour, minute, tzinfo=zone)
        moment = wall.timestamp()
        if datetime.fromtimestamp(moment, zone).replace(tzinfo=None) != wall.replace(tzinfo=None):
            if not elapsed:
                found.add(_end_of_gap(wall))
            continue
        found.add(moment)
        if elapsed:
            found.add(wall.replace(fold=1).timestamp())
    return sorted(found)


def _end_of_gap(wall: datetime) -> float:
    """The moment at which the clocks are put forward over `wall`. The two readings of a skipped time lie on both sides of it."""
    zone = wall.tzinfo
    early, late = int(wall.replace(fold=1).timestamp()), int(wall.timestamp())
    offset = datetime.fromtimestamp(early, zone).utcoffset()
    while late - early > 1:
        middle = (early + late) // 2
        if datetime.fromtimestamp(middle, zone).utcoffset() == offset:
            early = middle
        else:
            late = middle
    return float(late)
