"""When a schedule runs: cron lines, intervals and moments, in words and as the next runs. Pure; the arithmetic is beat's own."""

import copy
import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo, available_timezones

from celery.schedules import BaseSchedule, ParseException
from celery.schedules import schedule as interval
from celery.utils.time import weekday, yearmonth  # type: ignore[attr-defined]  # celery-types is behind
from cron_descriptor import (
    ExpressionDescriptor,
    FormatException,
    MissingFieldException,
    Options,
    WrongArgumentException,
)
from django.utils.formats import date_format
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django_celery_beat.clockedschedule import clocked
from django_celery_beat.tzcrontab import TzAwareCrontab


class BadTiming(ValueError):
    """This can never run, or cannot be read. str() is for people; `field` is what to mend: cron, timezone, every or at."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(reason)
        self.field = field


# name, lowest, highest, what a word in it means (`mon`, `jan`)
FIELDS = (
    (gettext_lazy("minute"), 0, 59, None),
    (gettext_lazy("hour"), 0, 23, None),
    (gettext_lazy("day of month"), 1, 31, None),
    (gettext_lazy("month"), 1, 12, yearmonth),
    (gettext_lazy("weekday"), 0, 6, weekday),
)
# Celery's parser matches the beginning of a part and ignores the rest ("1-5/2/3"), so a part is read whole here first.
PART = re.compile(
    r"(?:\*|(?P<first>[0-9a-z]+)(?:-(?P<last>[0-9a-z]+))?)(?:/(?P<step>[0-9]+))?", re.IGNORECASE | re.ASCII
)
PERIODS = {
    "seconds": timedelta(seconds=1),
    "minutes": timedelta(minutes=1),
    "hours": timedelta(hours=1),
    "days": timedelta(days=1),
}
LONGEST = timedelta(days=3650)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cron:
    """Five cron fields (minute, hour, day of month, month, weekday), read by the clocks of `zone`."""

    fields: tuple[str, str, str, str, str]
    zone: ZoneInfo

    @classmethod
    def parse(cls, line: str, zone: ZoneInfo) -> "Cron":
        """A checked cron line.

        Raises:
            BadTiming: not five fields, a field that Celery cannot read, or a date that no calendar has.
        """
        parts = line.split()
        if len(parts) != len(FIELDS):
            raise BadTiming(
                "cron",
                _("A cron line has five fields (minute, hour, day of month, month, weekday); this one has %d.")
                % len(parts),
            )
        for (label, lowest, highest, words), text in zip(FIELDS, parts, strict=True):
            for part in text.split(","):
                _check_part(str(label), part, lowest, highest, words)
        minute, hour, day, month, day_of_week = parts
        cron = cls(fields=(minute, hour, day, month, day_of_week), zone=zone)
        try:
            cron.schedule()
        except (ValueError, ParseException):
            raise BadTiming(
                "cron",
                _("It would never run: day %(day)s does not exist in month %(month)s.") % {"day": day, "month": month},
            ) from None
        return cron

    @property
    def line(self) -> str:
        """The five fields in one line."""
        return " ".join(self.fields)

    def schedule(self) -> TzAwareCrontab:
        """What beat asks whether it is due."""
        minute, hour, day, month, day_of_week = self.fields
        return TzAwareCrontab(minute, hour, day_of_week, day, month, tz=self.zone)

    def words(self) -> str:
        """`Every day at 09:00`; the line itself where there are no words for it."""
        minute, hour, *days = self.fields
        if minute.isdecimal() and hour.isdecimal() and days == ["*", "*", "*"]:
            return _("Every day at %s") % f"{int(hour):02}:{int(minute):02}"
        options = Options()
        options.use_24hour_time_format, options.locale_code = True, "en_US"
        try:
            return str(ExpressionDescriptor(self.line, options).get_description())
        except (FormatException, MissingFieldException, WrongArgumentException, ValueError, IndexError):
            return self.line

    def warning(self) -> str:
        """What surprises people who know cron, or nothing."""
        if self.fields[2] == "*" or self.fields[4] == "*":
            return ""
        return _(
            "Day of month and weekday are both set: it runs only on days that match both. System cron would run on days that match either."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Every:
    """Every `number` of seconds, minutes, hours or days, counted from the last run."""

    number: int
    period: str

    @classmethod
    def parse(cls, number: int, period: str) -> "Every":
        """A checked interval.

        Raises:
            BadTiming: less than one, or more than ten years.
        """
        if number < 1:
            raise BadTiming("every", _("An interval is at least 1; %d would never wait.") % number)
        if number > LONGEST / PERIODS[period]:
            raise BadTiming("every", _("An interval is at most ten years."))
        return cls(number=number, period=period)

    def schedule(self) -> interval:
        """What beat asks whether it is due."""
        return interval(timedelta(**{self.period: self.number}))

    def words(self) -> str:
        """`Every 30 seconds`."""
        number = self.number
        phrases = {
            "seconds": ngettext("Every second", "Every %(n)d seconds", number),
            "minutes": ngettext("Every minute", "Every %(n)d minutes", number),
            "hours": ngettext("Every hour", "Every %(n)d hours", number),
            "days": ngettext("Every day", "Every %(n)d days", number),
            "microseconds": ngettext("Every microsecond", "Every %(n)d microseconds", number),
        }
        return phrases[self.period] % {"n": number}


@dataclass(frozen=True, slots=True, kw_only=True)
class Once:
    """At one moment, and never again. Two are the same when the moment is, whatever the zone it is told in."""

    at: datetime

    def schedule(self) -> clocked:
        """What beat asks whether it is due."""
        return clocked(self.at)

    def words(self) -> str:
        """`Once, on 1 December 2026 at 09:00`."""
        return _("Once, on %(day)s at %(time)s") % {
            "day": date_format(self.at, "j F Y"),
            "time": f"{self.at:%H:%M:%S}".removesuffix(":00"),
        }


Timing = Cron | Every | Once


def parse_zone(name: str) -> ZoneInfo:
    """The time zone of that name.

    Raises:
        BadTiming: there is none; with the ones that look alike.
    """
    if name in zone_names():
        return ZoneInfo(name)
    close = difflib.get_close_matches(name, zone_names(), 3)
    hint = _(" Did you mean %s?") % _(" or ").join(close) if close else _(" Write it like Asia/Tokyo.")
    raise BadTiming("timezone", _("There is no time zone “%s”.") % name + hint)


@cache
def zone_names() -> tuple[str, ...]:
    """Every time zone that can be chosen, in order."""
    return tuple(sorted(available_timezones()))


def next_runs(schedule: BaseSchedule, *, last: datetime, now: datetime) -> Iterator[datetime]:
    """The moments (UTC) at which beat would send, from `now` on, if it last sent at `last`. The first is `now` when overdue.

    The clock is put forward by what the schedule asks for until it says "due", as beat's loop does, so daylight saving and
    every other peculiarity of the arithmetic come out as they will happen. Endless, except for a single moment.

    Raises:
        OverflowError, RuntimeError: there is no next run in any calendar.
    """
    clock = now.astimezone(UTC)
    if isinstance(schedule, clocked):
        yield max(clock, schedule.clocked_time.astimezone(UTC))
        return
    schedule = copy.copy(schedule)
    schedule.nowfun = lambda: clock.astimezone(last.tzinfo)  # type: ignore[attr-defined]  # celery-types is behind
    while True:
        wait = schedule.remaining_estimate(last)
        if wait > timedelta(0):
            clock += wait
        else:
            yield clock
            last = clock.astimezone(last.tzinfo)


def anchor(schedule: BaseSchedule, *, changed: datetime, start: datetime | None) -> datetime:
    """From when the next run counts while there was none: the last edit, or the start date when that is later.

    An interval that starts later runs first at its start; a cron line at its first match from the start on (inclusive).
    """
    if start is None or start <= changed:
        return changed
    if isinstance(schedule, interval):
        return start - timedelta(seconds=schedule.seconds)
    return start - timedelta(microseconds=1)


def _check_part(label: str, part: str, lowest: int, highest: int, words: object) -> None:
    found = PART.fullmatch(part)
    if not found or (found["step"] and found["first"] and not found["last"]):
        raise BadTiming(
            "cron",
            _("%(field)s: “%(part)s” cannot be read. Write *, 5, 1-5, */15 or 1,15.")
            % {"field": capfirst(label), "part": part},
        )
    for text in filter(None, (found["first"], found["last"])):
        _check_value(label, text, lowest, highest, words)
    if found["step"] and not 1 <= int(found["step"]) <= highest:
        raise BadTiming(
            "cron",
            _("%(field)s: a step is 1 to %(highest)d, not %(step)s.")
            % {"field": capfirst(label), "highest": highest, "step": found["step"]},
        )


def _check_value(label: str, text: str, lowest: int, highest: int, words: object) -> None:
    if text.isdecimal():
        if lowest <= int(text) <= highest:
            return
        reason = _("%(field)s is %(lowest)d to %(highest)d, not %(value)s.")
        if words is weekday and int(text) == 7:
            reason = _("%(field)s is %(lowest)d to %(highest)d, not 7. Write 0 for Sunday.")
        raise BadTiming(
            "cron", reason % {"field": capfirst(label), "lowest": lowest, "highest": highest, "value": text}
        )
    try:
        known = callable(words) and words(text) is not None
    except KeyError:
        known = False
    if not known:
        raise BadTiming(
            "cron",
            _("%(field)s: “%(value)s” is no %(field_lower)s.")
            % {"field": capfirst(label), "value": text, "field_lower": label},
        )
