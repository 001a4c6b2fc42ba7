"""When each enabled schedule is due next, in memory: a heap of light rows, kept true by notifications and by looking again in slices."""

import heapq
import logging
import uuid
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from celery import current_app
from django.utils.translation import override

from schedules import due
from schedules.election import Seat
from schedules.message import Unusable
from schedules.reasons import Reason

logger = logging.getLogger(__name__)

# Schedules and occurrences are named by ids under this one; it must never change.
NAMESPACE = uuid.UUID("5c1f5b0e-0a55-4f0c-9d4b-3d6f7f1a9e52")
PART = 2000
# A last run that is further ahead of the database's clock (seconds) is one by a clock that was set back since.
AHEAD = 60.0

COLUMNS = """
    SELECT task.id, interval_id, crontab_id, solar_id, clocked_id, extract(epoch FROM last_run_at)::float8, extract(epoch FROM date_changed)::float8,
           extract(epoch FROM start_time)::float8, extract(epoch FROM expires)::float8, one_off, coalesce(policy.jitter, 0),
           policy.paused_at IS NOT NULL, extract(epoch FROM policy.paused_until)::float8
      FROM django_celery_beat_periodictask task LEFT JOIN schedules_policy policy ON policy.schedule_id = task.id
     WHERE enabled AND """
WALK = COLUMNS + "task.id > %s ORDER BY task.id LIMIT %s"
SOME = COLUMNS + "task.id = ANY(%s)"
TIMINGS = {
    "crontab": "SELECT id, minute, hour, day_of_month, month_of_year, day_of_week, timezone FROM django_celery_beat_crontabschedule",
    "interval": "SELECT id, every, period FROM django_celery_beat_intervalschedule",
    "solar": "SELECT id, event, latitude::float8, longitude::float8 FROM django_celery_beat_solarschedule",
    "clocked": "SELECT id, extract(epoch FROM clocked_time)::float8 FROM django_celery_beat_clockedschedule",
}

KINDS = ("interval", "crontab", "solar", "clocked")
Key = tuple[str, int]


def occurrence_id(schedule: int, due_at: float) -> uuid.UUID:
    """The id of one due time of one schedule, the same in every beat; also the id of its task."""
    return uuid.uuid5(NAMESPACE, f"{schedule}:{due_at:.3f}")


def delay(schedule: int, due_at: float, jitter: int) -> float:
    """By how many seconds a due time is put off: up to `jitter`, and always the same."""
    return occurrence_id(schedule, due_at).int % (jitter * 1000) / 1000 if jitter else 0.0


class Item:
    """What must be known of a schedule until it is due."""

    __slots__ = ("anchor", "at", "ends", "held", "jitter", "key", "one_off", "pk", "version")

    pk: int
    key: Key
    anchor: float  # due times later than this one count
    at: float | None  # when to look at it next; None: never
    ends: float | None
    held: bool  # paused; `at` is when that ends
    jitter: int
    one_off: bool
    version: int  # entries of the heap with an older one are of no account


class Plan:
    """The enabled schedules, soonest first. `broken` collects why some have no next time, until somebody writes it down."""

    def __init__(self, seat: Seat) -> None:
        self.seat = seat
        self.items: dict[int, Item] = {}
        self.broken: dict[int, list[Reason]] = {}
        self._heap: list[tuple[float, int, int]] = []
        self._timings: dict[Key, due.Timing | Unusable] = {}
        self._memo: dict[tuple[Key, float], float | None] = {}
        self._version = 0

    def load(self) -> None:
        """Read everything anew, in parts, so that the lease is renewed in between."""
        self.items, self._heap, self._timings, self._memo = {}, [], {}, {}
        for kind in TIMINGS:
            self._read_timings(kind)
        last = 0
        while rows := self.seat.connection.execute(WALK, (last, PART), binary=True).fetchall():
            for row in rows:
                self._place(row)
            last = rows[-1][0]
            self.seat.renew()
        self._heap = [(item.at, item.pk, item.version) for item in self.items.values() if item.at is not None]
        heapq.heapify(self._heap)
        self.seat.schedules = len(self.items)

    def reload(self, ids: Iterable[int]) -> None:
        """Read some rows anew."""
        wanted = list(ids)
        for start in range(0, len(wanted), PART):
            part = wanted[start : start + PART]
            rows = self.seat.connection.execute(SOME, (part,), binary=True).fetchall()
            for row in rows:
                self.push(self._place(row))
            for gone in set(part) - {row[0] for row in rows}:
                self.items.pop(gone, None)
            self.seat.renew()
        self.seat.schedules = len(self.items)
        if len(self._heap) > 2 * len(self.items) + 1000:
            self._heap = [(item.at, item.pk, item.version) for item in self.items.values() if item.at is not None]
            heapq.heapify(self._heap)

    def forget_timing(self, key: Key) -> None:
        """A shared row of cron fields, an interval … was changed."""
        self._timings.pop(key, None)
        self._memo = {}

    def take_due(self, now: float, limit: int) -> list[Item]:
        """Take out what is due, at most `limit`."""
        found: list[Item] = []
        while self._heap and self._heap[0][0] <= now and len(found) < limit:
            _at, pk, version = heapq.heappop(self._heap)
            item = self.items.get(pk)
            if item is not None and item.version == version:
                found.append(item)
        return found

    def wait(self, now: float) -> float:
        """Seconds until the next one is due."""
        return max(0.0, self._heap[0][0] - now) if self._heap else float("inf")

    def advance(self, item: Item, anchor: float) -> None:
        """Put it back, for the first due time after `anchor`."""
        item.anchor = max(item.anchor, anchor)
        self._version += 1
        item.version = self._version
        item.held = False
        timing = self.timing(item.key)
        self._aim(item, timing)
        self.push(item)

    def put_off(self, item: Item, at: float) -> None:
        """Look at it again then, for the same due time."""
        item.at = at
        self.push(item)

    def push(self, item: Item) -> None:
        """Into the heap, if it has a time."""
        if item.at is not None:
            heapq.heappush(self._heap, (item.at, item.pk, item.version))

    def forget(self, pk: int) -> None:
        """It is off or deleted."""
        self.items.pop(pk, None)

    def timing(self, key: Key) -> due.Timing:
        """What a row of times says.

        Raises:
            Unusable: it says nothing that can be.
        """
        if key not in self._timings:
            self._read_timings(key[0], key[1])
        timing = self._timings.get(key) or Unusable("no_time")
        if isinstance(timing, Unusable):
            raise timing
        return timing

    def differs(self, row: Any) -> bool:
        """Whether a whole row, read anew, is not what is known of it."""
        item = self.items.get(row.id)
        if item is None or item.key != key_of(row):
            return True
        if (item.ends, item.one_off, item.jitter) != (row.ends, row.one_off, row.jitter):
            return True
        if item.held or row.paused or row.paused_until is not None:
            return item.held != (row.paused or row.paused_until is not None) or item.at != row.paused_until
        if row.last is not None and row.last > self.seat.now() + AHEAD:
            return bool(item.anchor > row.last - 0.001)
        try:
            anchor = due.anchor(self.timing(item.key), last=row.last, changed=row.changed, start=row.start)
        except Unusable:
            return False
        # An older one than ours is a last run that could not be written, because somebody held its row.
        return anchor > item.anchor + 0.001

    def _place(self, row: tuple[Any, ...]) -> Item:
        pk, last, now = row[0], row[5], self.seat.now()
        if last is not None and last > now + AHEAD:
            last = now
        known = self.items.get(pk)
        item = self.items[pk] = Item()
        self._version += 1
        item.pk, item.version, item.key = pk, self._version, _first(row[1:5])
        item.ends, item.one_off, item.jitter = row[8], row[9], row[10]
        item.at, item.anchor, item.held = None, float("-inf"), row[11]
        try:
            timing = self.timing(item.key)
            item.anchor = due.anchor(timing, last=last, changed=row[6], start=row[7])
            # Other people's code saves whole rows: an older last run than the one we know was read before ours was written.
            if known is not None and known.key == item.key and last is not None and last != now:
                item.anchor = max(item.anchor, known.anchor)
            if item.held:
                item.at = row[12]  # paused: look again when that ends
            else:
                self._aim(item, timing)
        except Unusable as problem:
            self.broken[pk] = problem.why
        return item

    def _aim(self, item: Item, timing: due.Timing) -> None:
        memo = (item.key, item.anchor)
        if memo in self._memo:
            upcoming = self._memo[memo]
        else:
            try:
                upcoming = timing.after(item.anchor)
            except Exception as problem:
                raise Unusable("bad_time", text=str(problem)) from problem
            if len(self._memo) > 10_000:
                self._memo = {}
            self._memo[memo] = upcoming
        if upcoming is not None:
            upcoming += delay(item.pk, upcoming, item.jitter)
        ends = item.ends
        item.at = ends if ends is not None and (upcoming is None or upcoming > ends) else upcoming

    def _read_timings(self, kind: str, pk: int | None = None) -> None:
        if kind not in TIMINGS:
            return
        query = TIMINGS[kind] + ("" if pk is None else " WHERE id = %s")
        rows = self.seat.connection.execute(query, None if pk is None else (pk,)).fetchall()
        with override(None):  # what is wrong with a cron line is told by its own words, and written down in English
            for row in rows:
                self.seat.renew()  # a cron line takes 0.1 ms to read, and there may be tens of thousands
                self._timings[kind, row[0]] = _readable(kind, row)


def key_of(row: Any) -> Key:
    """Which row of times a schedule points to; kind "" when to none."""
    return _first((row.interval_id, row.crontab_id, row.solar_id, row.clocked_id))


def _first(ids: Sequence[int | None]) -> Key:
    return next(((kind, pk) for kind, pk in zip(KINDS, ids, strict=True) if pk is not None), ("", 0))


def _readable(kind: str, row: tuple[Any, ...]) -> due.Timing | Unusable:
    """What it says, or why it says nothing."""
    try:
        return _timing(kind, row)
    except Unusable as problem:
        return problem
    except Exception as problem:  # noqa: BLE001  (whatever a row holds, it must not stop the others)
        return Unusable("bad_time", text=str(problem).strip() or repr(problem))


def _timing(kind: str, row: tuple[Any, ...]) -> due.Timing:
    if kind == "crontab":
        return due.Cron.parse(" ".join(field.replace(" ", "") for field in row[1:6]), ZoneInfo(row[6]))
    if kind == "interval":
        every = due.Every(number=row[1], period=row[2])
        try:
            possible = 1 <= every.seconds <= due.LONGEST.total_seconds()
        except OverflowError:
            possible = False
        if not possible:
            raise Unusable("bad_interval")
        return every
    if kind == "solar":
        return due.Solar(event=row[1], latitude=row[2], longitude=row[3])
    return due.Once(at=datetime.fromtimestamp(row[1], ZoneInfo(str(current_app.conf.timezone))))
