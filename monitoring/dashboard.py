"""The figures of the first screen: a fixed number of read-only queries, each bounded and on an index, however many rows there are."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar

from celery import states
from django.core.cache import cache
from django.db import models
from django.db.models import DateTimeField, F, Func, Q, QuerySet, Value
from django.utils import timezone
from django_celery_results.models import TaskResult

from deadletters.errors import ErrorGroup, open_errors
from deadletters.listing import Count, count
from deadletters.models import DeadLetter
from monitoring import heartbeats, workers
from monitoring.workers import BrokerAway, Queue, Workers
from pipelines import runs
from pipelines.models import Run
from pipelines.runs import Progress
from schedules.history import Broken
from schedules.liveness import Liveness, liveness

Answer = TypeVar("Answer")

BIN = timedelta(minutes=30)
BINS = 48
HOUR = timedelta(hours=1)
RECENT = timedelta(minutes=5)
LISTED = 6
# The finished half hours of the chart change no more, but results may still be loaded into them.
CHART_SECONDS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """Half an hour of finished tasks."""

    start: datetime
    succeeded: int
    failed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What finished lately. `failure` is a share of 0 to 1; None when nothing finished within the hour."""

    succeeded: int
    failed: int
    per_minute: float

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
    died_today: Count
    oldest: DeadLetter | None
    rates: Rates
    bins: list[Bin]
    errors: list[ErrorGroup]
    queues: list[Queue] | None
    workers: Workers | None
    heartbeat: datetime | None
    beat: Liveness
    broken: list[Broken]
    running: list[TaskResult]
    runs: list[tuple[Run, Progress]]

    @property
    def empty(self) -> bool:
        """Whether nothing has ever happened here, as far as the screen can tell."""
        quiet = not any(bin_.succeeded or bin_.failed for bin_ in self.bins)
        return quiet and not (self.open.number or self.runs or self.running)


def figures() -> Figures:
    """The figures as of now."""
    now = timezone.now()
    return Figures(
        at=now,
        open=count(DeadLetter.objects.open()),
        died_today=count(DeadLetter.objects.filter(died_at__gte=now - timedelta(days=1))),
        oldest=oldest_open(),
        rates=rates(now),
        bins=bins(now),
        errors=open_errors(LISTED),
        queues=_or_none(workers.queues),
        workers=_or_none(workers.alive),
        heartbeat=heartbeats.last(),
        beat=liveness(),
        broken=list(Broken.objects.select_related("schedule").order_by("-since")[:LISTED]),
        running=list(_results().filter(status=states.STARTED).order_by("-date_done")[:LISTED]),
        runs=latest_runs(),
    )


def as_dict(read: Figures) -> dict[str, Any]:
    """The figures for JSON; None is what cannot be known."""
    return {
        "at": read.at.isoformat(),
        "open": read.open.number,
        "died_in_24_hours": read.died_today.number,
        "oldest_open_seconds": (read.at - read.oldest.died_at).total_seconds() if read.oldest else None,
        "succeeded_last_hour": read.rates.succeeded,
        "failed_last_hour": read.rates.failed,
        "tasks_per_minute": read.rates.per_minute,
        "queues": None if read.queues is None else {queue.name: queue.waiting for queue in read.queues},
        "workers": None if read.workers is None else list(read.workers.alive),
        "beat": read.beat.leader,
        "beat_tick_age_seconds": None if read.beat.age is None else read.beat.age.total_seconds(),
        "broken_schedules": {broken.schedule.name: broken.reason for broken in read.broken},
        "heartbeat_age_seconds": (read.at - read.heartbeat).total_seconds() if read.heartbeat else None,
        "errors": [{"task": error.task_name, "error": error.name, "open": error.open.number} for error in read.errors],
    }


def oldest_open() -> DeadLetter | None:
    """The open letter that waits longest."""
    return DeadLetter.objects.open().only("task_name", "died_at").order_by("died_at", "id").first()


def rates(now: datetime) -> Rates:
    """What finished within the hour, and how much a minute within the last five."""
    row = TaskResult.objects.filter(date_done__gte=now - HOUR, status__in=(states.SUCCESS, states.FAILURE)).aggregate(
        succeeded=models.Count("pk", filter=Q(status=states.SUCCESS)),
        failed=models.Count("pk", filter=Q(status=states.FAILURE)),
        recent=models.Count("pk", filter=Q(date_done__gte=now - RECENT)),
    )
    return Rates(succeeded=row["succeeded"], failed=row["failed"], per_minute=row["recent"] / 5)


def bins(now: datetime) -> list[Bin]:
    """Finished tasks of the last 24 hours by half hours, oldest first; the last one is under way."""
    first = (
        datetime.fromtimestamp(now.timestamp() // BIN.total_seconds() * BIN.total_seconds(), now.tzinfo)
        - (BINS - 1) * BIN
    )
    recent = first + (BINS - 2) * BIN
    key = f"monitoring.bins.{first.timestamp():.0f}"
    finished = cache.get(key)
    if finished is None:
        finished = _bins(first, recent)
        cache.set(key, finished, CHART_SECONDS)
    counts = {**finished, **_bins(recent, now + BIN)}
    return [
        Bin(
            start=start, succeeded=counts.get((start, states.SUCCESS), 0), failed=counts.get((start, states.FAILURE), 0)
        )
        for start in (first + i * BIN for i in range(BINS))
    ]


def latest_runs() -> list[tuple[Run, Progress]]:
    """The newest runs and where each stands."""
    newest = list(Run.objects.order_by("-created_at")[:LISTED])
    progress = runs.overview(newest)
    return [(run, progress[run.pk]) for run in newest]


def _bins(since: datetime, until: datetime) -> dict[tuple[datetime, str], int]:
    rows = (
        TaskResult.objects.filter(
            date_done__gte=since, date_done__lt=until, status__in=(states.SUCCESS, states.FAILURE)
        )
        .order_by()
        .values_list(_slot("date_done", BIN, since), "status")
        .annotate(models.Count("pk"))
    )
    return {(start, status): count for start, status, count in rows}


def _slot(field: str, width: timedelta, origin: datetime) -> Func:
    return Func(Value(width), F(field), Value(origin), function="date_bin", output_field=DateTimeField())


def _results() -> QuerySet[Any]:
    results: QuerySet[Any] = TaskResult.objects.defer("result", "traceback", "meta", "task_args", "task_kwargs")
    return results


def _or_none(ask: Callable[[], Answer]) -> Answer | None:
    try:
        return ask()
    except BrokerAway:
        return None
