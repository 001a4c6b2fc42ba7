"""Finished tasks and deaths by the minute: each minute is counted once, when it is over, and then only added up.

Exact to the minute: a minute is closed CLOSED_AFTER its end, the open ones are counted as they are. What is written into a closed
minute later (a clock that is behind, results loaded by hand) is not in it; a task that was replayed counts where it failed, too.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import connection, transaction
from django.utils import timezone

from deadletters.console.listing import TooBroad, patience
from monitoring.models import Minute

MINUTE = timedelta(minutes=1)
# Longer than a result's transaction takes, and than the clocks of our machines differ.
CLOSED_AFTER = timedelta(minutes=2)
# So far back a new installation counts, and the screens look.
BACK = timedelta(days=7)
KEPT = timedelta(days=35)
# A page closes what it finds open only while that is quick; the rest is the heartbeat's.
QUICKLY = timedelta(milliseconds=300)
# The heartbeat counts so much at once.
SLICE = timedelta(hours=1)
# Minutes that nobody closed are counted as they are only this far back: more is no quick question.
LIVE = timedelta(minutes=15)
# What a sample notes.
SAMPLED = ("open", "waiting", "workers")
# Any two counters of the same minute would count it twice over; the second one leaves it to the first.
_LOCK = 7_340_152

# S608: no value is in the text; %(…)s are parameters.
_COUNT = """
    SELECT slot.at, coalesce(result.succeeded, 0) AS succeeded, coalesce(result.failed, 0) AS failed,
           coalesce(letter.died, 0) AS died, coalesce(result.busy, 0)::float AS busy
    FROM generate_series(%(since)s::timestamptz, %(until)s::timestamptz - interval '1 minute', interval '1 minute') AS slot(at)
    LEFT JOIN (
        SELECT date_bin('1 minute', date_done, %(since)s) AS at,
               count(*) FILTER (WHERE status = 'SUCCESS') AS succeeded, count(*) FILTER (WHERE status = 'FAILURE') AS failed,
               coalesce(sum(extract(epoch FROM date_done - date_started)), 0) AS busy
        FROM django_celery_results_taskresult
        WHERE date_done >= %(since)s AND date_done < %(until)s AND status IN ('SUCCESS', 'FAILURE') GROUP BY 1
    ) AS result USING (at)
    LEFT JOIN (
        SELECT date_bin('1 minute', died_at, %(since)s) AS at, count(*) AS died
        FROM deadletters_deadletter WHERE died_at >= %(since)s AND died_at < %(until)s GROUP BY 1
    ) AS letter USING (at)
"""
_CLOSE = f"""
    INSERT INTO monitoring_minute AS minute (counted, at, succeeded, failed, died, busy) SELECT true, counted.* FROM ({_COUNT}) AS counted
    ON CONFLICT (at) DO UPDATE SET counted = true, succeeded = excluded.succeeded, failed = excluded.failed, died = excluded.died,
        busy = excluded.busy
"""  # noqa: S608
_SAMPLE = """
    INSERT INTO monitoring_minute AS minute (at, open, waiting, workers, counted, succeeded, failed, died, busy)
    VALUES (date_trunc('minute', %(at)s::timestamptz), %(open)s, %(waiting)s, %(workers)s, false, 0, 0, 0, 0)
    ON CONFLICT (at) DO UPDATE SET open = excluded.open, waiting = excluded.waiting, workers = excluded.workers
"""
_CLOSED = """
    SELECT date_bin(%(width)s, at, %(from)s), sum(succeeded)::int, sum(failed)::int, sum(died)::int, sum(busy)
    FROM monitoring_minute
    WHERE at >= %(from)s AND at < %(until)s GROUP BY 1
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """What happened from `start` on, for as long as the bins are wide. `busy`: seconds that tasks ran."""

    start: datetime
    succeeded: int = 0
    failed: int = 0
    died: int = 0
    busy: float = 0.0

    @property
    def finished(self) -> int:
        """Succeeded or failed."""
        return self.succeeded + self.failed


@dataclass(frozen=True, slots=True, kw_only=True)
class UnderWay:
    """The minutes that nobody closed, counted as they are, from `since` on: rows of (minute, succeeded, failed, died, busy)."""

    # Every minute before it was counted. Usually two or three minutes ago; earlier while a new installation counts its past.
    counted_until: datetime
    since: datetime
    rows: Sequence[tuple[datetime, int, int, int, float]]


def under_way(now: datetime) -> UnderWay:
    """Count them: once for all that a page shows."""
    counted_until = _next(now)
    since = max(counted_until, _minute(now) - LIVE)
    with connection.cursor() as cursor:
        cursor.execute(_COUNT, {"since": since, "until": _minute(now) + MINUTE})
        return UnderWay(counted_until=counted_until, since=since, rows=cursor.fetchall())


def bins(since: datetime, width: timedelta, number: int, *, open_: UnderWay) -> list[Bin]:
    """`number` bins from `since` (a whole minute) on, oldest first; the last one may be under way."""
    with connection.cursor() as cursor:
        values: dict[str, Any] = {"from": since, "until": open_.since, "width": width}
        cursor.execute(_CLOSED, values)
        found = {row[0]: row[1:] for row in cursor.fetchall()}
    for at, *counted in open_.rows:
        start = since + (at - since) // width * width
        found[start] = [a + b for a, b in zip(found.get(start, (0, 0, 0, 0)), counted, strict=True)]
    starts = [since + place * width for place in range(number)]
    return [_bin(start, found.get(start)) for start in starts]


def close(now: datetime | None = None, *, at_most: timedelta | None = None) -> bool:
    """Count the minutes that are over and were not counted yet, oldest first; returns whether none is left. Safe to repeat."""
    now = now or timezone.now()
    since, until = _next(now), _minute(now - CLOSED_AFTER)
    if since >= until:
        return True
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s), statement_timestamp()", [_LOCK])
        free, clock = cursor.fetchone()
        if not free:
            return False
        # A machine whose clock is ahead must not close what has only begun: it would stay empty.
        until = min(until, _minute(clock - CLOSED_AFTER))
        stop = min(until, since + at_most) if at_most else until
        if since < stop:
            cursor.execute(_CLOSE, {"since": since, "until": stop})
    return stop == until


def close_quickly() -> bool:
    """The same for a page that somebody waits for: gives up after QUICKLY, and leaves it to the heartbeat."""
    now = timezone.now()
    if _next(now) >= _minute(now - CLOSED_AFTER):
        return True  # as mostly: what patience asks for costs five statements
    try:
        with patience(QUICKLY):
            return close()
    except TooBroad:
        return False


def close_all(seconds: float) -> bool:
    """The same in slices, for as many seconds at most: what the heartbeat does each minute. Returns whether none is left."""
    deadline = time.monotonic() + seconds
    while not (done := close(at_most=SLICE)) and time.monotonic() < deadline:
        pass
    return done


def sample(*, open: int, waiting: int | None, workers: int | None) -> None:  # noqa: A002  (the column's name)
    """Note how it stands now."""
    with connection.cursor() as cursor:
        cursor.execute(_SAMPLE, {"at": timezone.now(), "open": open, "waiting": waiting, "workers": workers})


def samples(since: datetime, *, points: int = 48) -> dict[str, Sequence[int]]:
    """{"open" | "waiting" | "workers": the highest of each stretch of the samples since then, at most `points`, oldest first}."""
    rows = list(Minute.objects.filter(at__gte=since).order_by("at").values_list(*SAMPLED))
    return {
        name: _peaks([row[place] for row in rows if row[place] is not None], points)
        for place, name in enumerate(SAMPLED)
    }


def _peaks(values: Sequence[int], points: int) -> Sequence[int]:
    size = max(1, -(-len(values) // points))
    return [max(values[place : place + size]) for place in range(0, len(values), size)]


def prune() -> int:
    """Delete minutes that no screen shows any more; returns how many."""
    return Minute.objects.filter(at__lt=timezone.now() - KEPT).delete()[0]


def _next(now: datetime) -> datetime:
    """The oldest minute that was not counted yet."""
    newest = Minute.objects.filter(counted=True).order_by("-at").values_list("at", flat=True).first()
    return max(newest + MINUTE, _minute(now - BACK)) if newest else _minute(now - BACK)


def _minute(moment: datetime) -> datetime:
    return moment.replace(second=0, microsecond=0)


def _bin(start: datetime, row: Sequence[float] | None) -> Bin:
    if row is None:
        return Bin(start=start)
    succeeded, failed, died, busy = row
    return Bin(start=start, succeeded=int(succeeded), failed=int(failed), died=int(died), busy=float(busy))
