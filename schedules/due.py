"""When a schedule runs: cron lines, intervals, moments and the sun, in words and as the next runs. Pure: previews and beat ask the same code."""

import difflib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo, available_timezones

from celery.schedules import ParseException, solar
from cron_descriptor import (
    ExpressionDescriptor,
    FormatException,
    MissingFieldException,
    Options,
    WrongArgumentException,
)
from django.utils.formats import date_format
from django.utils.translation import get_language, gettext_lazy, ngettext
from django.utils.translation import gettext as _

from schedules import cronline, cronwords, wallclock
from schedules.cronline import BadTiming

__all__ = ["BadTiming", "Cron", "Every", "Once", "Solar", "Timing"]


PERIODS = {
    "seconds": timedelta(seconds=1),
    "minutes": timedelta(minutes=1),
    "hours": timedelta(hours=1),
    "days": timedelta(days=1),
}
# What the sun does, as Celery calls it.
EVENTS = {
    "dawn_astronomical": gettext_lazy("Astronomical dawn"),
    "dawn_nautical": gettext_lazy("Nautical dawn"),
    "dawn_civil": gettext_lazy("Civil dawn"),
    "sunrise": gettext_lazy("Sunrise"),
    "solar_noon": gettext_lazy("Solar noon"),
    "sunset": gettext_lazy("Sunset"),
    "dusk_civil": gettext_lazy("Civil dusk"),
    "dusk_nautical": gettext_lazy("Nautical dusk"),
    "dusk_astronomical": gettext_lazy("Astronomical dusk"),
}
LONGEST = timedelta(days=3650)
# A walk of so many due times takes 50 ms.
WALKED = 2000
# Where it goes on after that: a week, a day, an hour ago.
WINDOWS = (7 * 86_400, 86_400, 3600)


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
        cron = cls(fields=cronline.split(line), zone=zone)
        try:
            possible = _comes(wallclock.read_fields(*cron.fields))
        except (ValueError, ParseException):
            possible = False
        if not possible:
            raise BadTiming(
                "cron",
                _("It would never run: day %(day)s does not exist in month %(month)s.")
                % {"day": cron.fields[2], "month": cron.fields[3]},
            )
        return cron

    @property
    def line(self) -> str:
        """The five fields in one line."""
        return " ".join(self.fields)

    def after(self, moment: float) -> float | None:
        """The first due time later than `moment` (both in epoch seconds)."""
        return wallclock.after(wallclock.read_fields(*self.fields), self.zone, moment)

    def words(self) -> str:
        """`Every day at 09:00`; the line itself where there are no words for it."""
        minute, hour, *days = self.fields
        if minute.isdecimal() and hour.isdecimal() and days == ["*", "*", "*"]:
            return _("Every day at %s") % f"{int(hour):02}:{int(minute):02}"
        if get_language() == "ja":
            return cronwords.japanese(self.fields) or self.line
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
    """Every `number` of seconds, minutes, hours or days, counted from the due time before; a day is 24 hours."""

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

    @property
    def seconds(self) -> float:
        """How long it waits."""
        return timedelta(**{self.period: self.number}).total_seconds()

    def after(self, moment: float) -> float | None:
        """The due time after the one at `moment` (both in epoch seconds)."""
        return round(moment + self.seconds, 3)

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

    def after(self, moment: float) -> float | None:
        """Its moment, if that is later than `moment` (both in epoch seconds)."""
        at = self.at.timestamp()
        return at if at > moment else None

    def words(self) -> str:
        """`Once, on 1 December 2026 at 09:00`."""
        return _("Once, on %(day)s at %(time)s") % {
            "day": date_format(self.at, _("j F Y")),
            "time": f"{self.at:%H:%M:%S}".removesuffix(":00"),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Solar:
    """At an event of the sun (`sunrise`, `dusk_civil` …) seen from one place; days without it are left out."""

    event: str
    latitude: float
    longitude: float

    def after(self, moment: float) -> float | None:
        """The first event later than `moment` (both in epoch seconds)."""
        # ephem finds an event again that was less than a second ago.
        start = datetime.fromtimestamp(moment + 1, UTC)
        sun = solar(
            self.event,  # type: ignore[arg-type]  # any other raises
            self.latitude,
            self.longitude,
            nowfun=lambda: start,
        )
        return (start + sun.remaining_estimate(start)).timestamp() // 1

    def words(self) -> str:
        """`At civil dusk, seen from 35.7° / 139.7°`."""
        return _("At %(event)s, seen from %(latitude)s° / %(longitude)s°") % {
            "event": str(EVENTS.get(self.event, self.event)).lower(),
            "latitude": round(self.latitude, 2),
            "longitude": round(self.longitude, 2),
        }


Timing = Cron | Every | Once | Solar


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


def next_runs(timing: Timing, *, anchor: float, now: float) -> Iterator[datetime]:
    """The coming runs (UTC) when due times count from `anchor`. The first is `now` when one is overdue. Endless, unless time ends it."""
    overdue, _count = between(timing, anchor, now, limit=1)
    if overdue:
        yield datetime.fromtimestamp(now, UTC)
        anchor = overdue[-1]
    while (run := timing.after(anchor)) is not None:
        yield datetime.fromtimestamp(run, UTC)
        anchor = run


def between(timing: Timing, anchor: float, now: float, *, limit: int) -> tuple[list[float], int]:
    """The newest `limit` due times after `anchor` and up to `now`, oldest first, and how many there are in all.

    Of many thousands only the first ones and those of the last week are counted.
    """
    skipped = 0
    if isinstance(timing, Every):
        skipped = max(0, int((now - anchor) // timing.seconds) - limit)
        anchor += skipped * timing.seconds
    found, walked = _walk(timing, anchor, now, limit)
    count = skipped + walked
    for window in WINDOWS:
        if walked < WALKED:
            break
        late, walked = _walk(timing, max(found[-1], now - window), now, limit)
        found, count = [*found, *late][-limit:], count + walked
    return found, count


def _walk(timing: Timing, anchor: float, now: float, limit: int) -> tuple[list[float], int]:
    found: deque[float] = deque(maxlen=limit)
    count = 0
    due = timing.after(anchor)
    while due is not None and due <= now and count < WALKED:
        count += 1
        found.append(due)
        due = timing.after(due)
    return list(found), count


def anchor(timing: Timing, *, last: float | None, changed: float, start: float | None) -> float:
    """From when due times count (epoch seconds): the last one, else the last edit; or the start date when that is later.

    An interval that starts later runs first at its start; a cron line at its first match from the start on (inclusive).
    """
    if isinstance(timing, Once):
        return float("-inf") if last is None else last
    # Whole milliseconds: every beat comes to the same number, whatever it started from.
    since = round(changed if last is None else last, 3)
    if start is None or start <= since:
        return since
    return round(start - (timing.seconds if isinstance(timing, Every) else 0.001), 3)


def _comes(fields: wallclock.Fields) -> bool:
    return wallclock.after(fields, UTC, 0) is not None
