"""Figures for Prometheus, read from the store and the broker at each scrape: counts are right after a restart, and workers need no port."""

import platform
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from typing import Any

import celery
import django
from celery import states
from django.db import Error
from django.db.models import Count, QuerySet
from django.utils import timezone
from django_celery_results.models import TaskResult
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric

from deadletters.capture.spool import SpoolError, spool
from deadletters.console.tabs import count_by_state
from deadletters.models import Cause, DeadLetter
from monitoring import dashboard, heartbeats, queues, workers
from monitoring.broker import BrokerAway
from schedules.history import Broken
from schedules.liveness import liveness

# Counting stops here: a million rows take longer than a scrape may.
COUNTED = 100_000
# States that are always shown, so that a rate over them has no gaps.
SHOWN = (states.SUCCESS, states.FAILURE, states.RETRY, states.STARTED, states.REVOKED)


class StoreCollector:
    """Reads everything when scraped. A part that is away is missing and told by redeliver_up{part="…"} 0."""

    def describe(self) -> list[Metric]:
        """Nothing: else registering would already scrape."""
        return []

    def collect(self) -> Iterator[Metric]:
        """All metrics, then which parts answered."""
        up = GaugeMetricFamily(
            "redeliver_up", "Whether this part answered the scrape (1) or is away (0).", labels=["part"]
        )
        yield _build_info()
        parts: tuple[tuple[str, Callable[[], Iterable[Metric]], type[Exception]], ...] = (
            ("database", _database, Error),
            ("broker", _broker, BrokerAway),
            ("spool", _spool, SpoolError),
        )
        for part, read, away in parts:
            metrics = _read(read, away)
            up.add_metric([part], 0 if metrics is None else 1)
            yield from metrics or ()
        yield up


def text() -> bytes:
    """One scrape in Prometheus' text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(StoreCollector())
    return generate_latest(registry)


def _read(read: Callable[[], Iterable[Metric]], away: type[Exception]) -> list[Metric] | None:
    try:
        return list(read())
    except away:
        return None


def _build_info() -> Metric:
    info = GaugeMetricFamily(
        "redeliver_build_info", "Always 1; the versions are in the labels.", labels=["python", "django", "celery"]
    )
    info.add_metric([platform.python_version(), django.get_version(), celery.__version__], 1)
    return info


def _database() -> Iterator[Metric]:
    now = timezone.now()
    yield _by(
        "redeliver_dead_letters", f"Dead letters by state, counted up to {COUNTED}.", "state", count_by_state(COUNTED)
    )
    newest = DeadLetter.objects.open().order_by("-died_at", "-id").values("pk")[:COUNTED]
    causes = dict(DeadLetter.objects.filter(pk__in=newest).order_by().values_list("cause").annotate(Count("pk")))
    yield _by(
        "redeliver_open_dead_letters", f"Open dead letters by cause, among the newest {COUNTED}.", "cause",
        {cause: causes.get(cause, 0) for cause in Cause.values},
    )  # fmt: skip
    yield _by(
        "redeliver_dead_letters_not_kept_whole",
        f"Open dead letters without their message or traceback, because there were too many of their error; counted up to {COUNTED}.",
        "part",
        {
            "payload": _bounded(DeadLetter.objects.open().filter(payload_kept=False)),
            "traceback": _bounded(DeadLetter.objects.open().filter(traceback_kept=False)),
        },
    )
    oldest = dashboard.oldest_open()
    yield GaugeMetricFamily(
        "redeliver_oldest_open_dead_letter_age_seconds", "Age of the open letter that waits longest; 0 when none is open.",
        value=(now - oldest.died_at).total_seconds() if oldest else 0,
    )  # fmt: skip
    results = (
        TaskResult.objects.filter(date_done__gte=now - timedelta(hours=1))
        .order_by()
        .values_list("status")
        .annotate(Count("pk"))
    )
    yield _by(
        "redeliver_results_last_hour",
        "Results by state, touched within the last hour.",
        "state",
        {**dict.fromkeys(SHOWN, 0), **dict(results)},
    )
    yield from _schedules(now)


def _schedules(now: datetime) -> Iterator[Metric]:
    beat = liveness()
    if beat.age is not None:
        yield GaugeMetricFamily(
            "redeliver_beat_tick_age_seconds",
            "Seconds since the leading beat last ticked.",
            value=beat.age.total_seconds(),
        )
    yield GaugeMetricFamily("redeliver_beats_standing_by", "Beats that would take over.", value=beat.standing_by)
    yield GaugeMetricFamily(
        "redeliver_schedules_broken", "Enabled schedules that cannot run.", value=Broken.objects.count()
    )
    if heartbeat := heartbeats.last():
        yield GaugeMetricFamily(
            "redeliver_beat_last_heartbeat_age_seconds", "Seconds since beat's heartbeat came through a worker.",
            value=max(0.0, (now - heartbeat).total_seconds()),
        )  # fmt: skip


def _broker() -> Iterator[Metric]:
    yield GaugeMetricFamily("redeliver_workers", "Workers that answered a ping.", value=len(workers.alive().alive))
    try:
        waiting = {queue.name: queue.waiting for queue in queues.queues()}
    except Error:  # which queues there are is known by the schedules, too; that the database is away is told above
        return
    yield _by("redeliver_queue_depth", "Messages that wait in a queue.", "queue", waiting)


def _spool() -> Iterator[Metric]:
    here = spool()
    yield _by(
        "redeliver_spooled", "Deaths in the spool that this process sees: waiting for PostgreSQL, or set aside for a person.", "kind",
        {"waiting": here.count(), "set_aside": here.aside()},
    )  # fmt: skip


def _bounded(rows: QuerySet[Any]) -> int:
    return rows.order_by()[:COUNTED].count()


def _by(name: str, documentation: str, label: str, values: dict[str, int]) -> Metric:
    family = GaugeMetricFamily(name, documentation, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family
