"""The figures of the first screen: a fixed number of read-only queries, each bounded and on an index, however many rows there are.

What finished and what died comes from the minutes that were counted already (minutes.py); only the last few are counted as they are.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeVar

from django.utils import timezone

from deadletters.console.errors import OpenError, open_errors
from deadletters.console.listing import Count, count
from deadletters.models import DeadLetter
from monitoring import heartbeats, minutes, queues, workers
from monitoring.broker import BrokerAway
from monitoring.minutes import MINUTE, Bin, UnderWay
from monitoring.queues import Queue
from monitoring.workers import Running, Workers
from pipelines import runs
from pipelines.models import Run
from pipelines.runs import Progress
from schedules.late import some_late
from schedules.liveness import Liveness, liveness
from schedules.models import Schedule

Answer = TypeVar("Answer")

DAY = timedelta(days=1)
# Minutes that the rate a minute is the average of.
RECENT = 5
LISTED = 6


@dataclass(frozen=True, slots=True)
class Window:
    """How far the chart looks back, in how many bars."""

    name: str
    width: timedelta
    number: int


# The first one is shown when nobody has chosen.
WINDOWS = {
    window.name: window
    for window in (
        Window("24h", timedelta(minutes=30), 48),
        Window("1h", MINUTE, 60),
        Window("7d", timedelta(hours=4), 42),
    )
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What finished within the last hour. `failure` is a share of 0 to 1; None when nothing finished."""

    succeeded: int
    failed: int
    per_minute: float
    # Average seconds that a task ran; None when none did.
    seconds: float | None = None

    @property
    def failure(self) -> float | None:
        """Failed of all finished within the hour."""
        finished = self.succeeded + self.failed
        return self.failed / finished if finished else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """All of the first screen. `workers` and `queues` are None while the broker is away."""

    at: datetime
    open: Count
    died_today: int
    oldest: DeadLetter | None
    rates: Rates
    window: Window
    bins: list[Bin]
    errors: list[OpenError]
    queues: list[Queue] | None
    workers: Workers | None
    heartbeat: datetime | None
    beat: Liveness
    broken: list[Schedule]
    # Schedules that should have been sent by now, and since when; LISTED at most.
    late: list[tuple[Schedule, datetime]]
    runs: list[tuple[Run, Progress]]
    # {"open" | "waiting" | "workers": samples of the last day, oldest first}
    samples: dict[str, Sequence[int]] = field(default_factory=dict)
    # Up to when all minutes were counted.
    counted_until: datetime | None = None

    @property
    def running(self) -> list[Running]:
        """What runs now, as far as workers told."""
        return self.workers.running[:LISTED] if self.workers else []

    @property
    def empty(self) -> bool:
        """Whether nothing has ever happened here, as far as the screen can tell."""
        quiet = not any(bin_.finished for bin_ in self.bins)
        return quiet and not (self.open.number or self.runs or self.running)

    @property
    def behind(self) -> bool:
        """Whether the past is still being counted, so that its figures are too low."""
        return self.counted_until is not None and self.at - self.counted_until > minutes.LIVE


def figures(window: str = "") -> Figures:
    """The figures as of now."""
    minutes.close_quickly()
    now = timezone.now()
    shown = WINDOWS.get(window) or next(iter(WINDOWS.values()))
    day, open_ = WINDOWS["24h"], minutes.under_way(now)
    today = _bins(day, now, open_)
    return Figures(
        at=now,
        open=count(DeadLetter.objects.open()),
        died_today=sum(bin_.died for bin_ in today),
        oldest=oldest_open(),
        rates=rates(now, open_),
        window=shown,
        bins=today if shown is day else _bins(shown, now, open_),
        errors=open_errors(LISTED),
        queues=_or_none(queues.queues),
        workers=_or_none(workers.alive),
        heartbeat=heartbeats.last(),
        beat=liveness(),
        broken=list(
            Schedule.objects.filter(broken__isnull=False)
            .select_related("broken", "crontab", "interval", "clocked", "solar")
            .order_by("-broken__since")[:LISTED]
        ),
        late=some_late(LISTED),
        runs=latest_runs(),
        samples=minutes.samples(now - DAY),
        counted_until=open_.counted_until,
    )  # fmt: skip


def as_dict(read: Figures) -> dict[str, Any]:
    """The figures for JSON; None is what cannot be known."""
    return {
        "at": read.at.isoformat(),
        "open": read.open.number,
        "died_in_24_hours": read.died_today,
        "oldest_open_seconds": (read.at - read.oldest.died_at).total_seconds() if read.oldest else None,
        "succeeded_last_hour": read.rates.succeeded,
        "failed_last_hour": read.rates.failed,
        "tasks_per_minute": read.rates.per_minute,
        "queues": None if read.queues is None else {queue.name: queue.waiting for queue in read.queues},
        "oldest_message_seconds": None
        if read.queues is None
        else {queue.name: queue.oldest for queue in read.queues if queue.oldest is not None},
        "paused_queues": None if read.queues is None else [queue.name for queue in read.queues if queue.paused],
        "workers": None if read.workers is None else list(read.workers.alive),
        "silent_workers": None if read.workers is None else [name for name, _seconds in read.workers.silent],
        "beat": read.beat.leader,
        "beat_tick_age_seconds": None if read.beat.age is None else read.beat.age.total_seconds(),
        "broken_schedules": {
            schedule.name: {"reason": schedule.broken.reason, "why": schedule.broken.why} for schedule in read.broken
        },
        "late_schedules": {schedule.name: (read.at - since).total_seconds() for schedule, since in read.late},
        "heartbeat_age_seconds": (read.at - read.heartbeat).total_seconds() if read.heartbeat else None,
        "errors": [{"task": error.task_name, "error": error.name, "open": error.open.number} for error in read.errors],
    }


def oldest_open() -> DeadLetter | None:
    """The open letter that waits longest."""
    return DeadLetter.objects.open().only("task_name", "died_at").order_by("died_at", "id").first()


def rates(now: datetime, open_: UnderWay) -> Rates:
    """What finished within the last 60 minutes, and how much a minute within the last RECENT whole ones."""
    hour = _bins(WINDOWS["1h"], now, open_)
    finished = sum(bin_.finished for bin_ in hour)
    return Rates(
        succeeded=sum(bin_.succeeded for bin_ in hour),
        failed=sum(bin_.failed for bin_ in hour),
        per_minute=sum(bin_.finished for bin_ in hour[-RECENT - 1 : -1]) / RECENT,
        seconds=sum(bin_.busy for bin_ in hour) / finished if finished else None,
    )


def latest_runs() -> list[tuple[Run, Progress]]:
    """The newest runs and where each stands."""
    newest = list(Run.objects.defer("tree", "parameters").order_by("-created_at")[:LISTED])
    progress = runs.overview(newest)
    return [(run, progress[run.pk]) for run in newest]


def take_sample() -> None:
    """Note for the sparklines how it stands now."""
    waiting, alive = _or_none(queues.queues), _or_none(workers.alive)
    minutes.sample(
        open=count(DeadLetter.objects.open()).number,
        waiting=None if waiting is None else sum(queue.waiting for queue in waiting),
        workers=None if alive is None else len(alive.alive),
    )


def _bins(window: Window, now: datetime, open_: UnderWay) -> list[Bin]:
    first = _floor(now, window.width) - (window.number - 1) * window.width
    return minutes.bins(first, window.width, window.number, open_=open_)


def _floor(moment: datetime, width: timedelta) -> datetime:
    seconds = width.total_seconds()
    return datetime.fromtimestamp(moment.timestamp() // seconds * seconds, moment.tzinfo)


def _or_none(ask: Callable[[], Answer]) -> Answer | None:
    try:
        return ask()
    except BrokerAway:
        return None
