"""The first row of the dashboard, and what is wrong right now: figures -> words; pure."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

from django.utils.formats import number_format
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from deadletters.console.sparkline import Sparkline, sparkline
from monitoring import heartbeats
from monitoring.dashboard import Figures
from monitoring.queues import Queue
from monitoring.workers import Workers
from schedules.listing import why_broken

# Shares of failed tasks within the hour.
FAILING, FAILING_BADLY = 0.01, 0.05
# Fewer finished tasks than this say nothing about a rate.
ENOUGH = 20
BACKING_UP = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """One figure. `tone`: ok, quiet (nothing to tell), warn or bad; `page` names the list behind it."""

    page: str
    title: str
    value: str
    note: str
    tone: str
    spark: Sparkline | None = None


def tiles(figures: Figures) -> list[Tile]:
    """The seven figures, left to right by how much they matter at night."""
    return [
        _open(figures), _oldest(figures), _failure_rate(figures), _per_minute(figures),
        _queued(figures), _workers(figures), _beat(figures),
    ]  # fmt: skip


def troubles(figures: Figures, may: Callable[[str], bool] = lambda _permission: True) -> list[str]:
    """What is wrong right now, a sentence each with what to do; empty when all is well. Nothing is named that the reader may not see."""
    found = []
    if figures.workers is None or figures.queues is None:
        found.append(_("The broker does not answer: nothing can be sent or run until it is back."))
    elif not figures.workers.alive:
        found.append(_("No worker answers, so tasks wait. Start one: celery -A config worker"))
    elif may("monitoring.view_workers"):
        found += _of_workers(figures.workers, figures.queues)
    if figures.beat.silent and (figures.beat.age is not None or figures.heartbeat):
        found.append(_("No beat ticks, so no schedule runs. Start one: celery -A config beat"))
    if figures.broken and may("schedules.view_schedule"):
        names = "; ".join(f"“{schedule.name}”: {why_broken(schedule)}" for schedule in figures.broken)
        found.append(_("These schedules cannot run. %s") % names)
    if figures.late and not figures.beat.silent and may("schedules.view_schedule"):  # of a silent beat that says it
        names = ", ".join(f"“{schedule.name}” ({age(figures.at - since)})" for schedule, since in figures.late)
        found.append(_("These schedules are late, though a beat ticks: %s") % names)
    if figures.heartbeat and figures.at - figures.heartbeat > heartbeats.LATE:
        found.append(
            _("Beat's last heartbeat is %s old: schedules may not run. Check that beat and a worker are running.")
            % age(figures.at - figures.heartbeat)
        )
    rates = figures.rates
    if rates.failure is not None and rates.failure >= FAILING_BADLY and rates.succeeded + rates.failed >= ENOUGH:
        found.append(_("%s of all tasks failed within the last hour.") % _percent(rates.failure))
    return found


def _of_workers(workers: Workers, queues: Sequence[Queue]) -> Iterator[str]:
    for name, seconds in workers.silent:
        yield _("Worker %(name)s has been silent for %(age)s.") % {"name": name, "age": age(timedelta(seconds=seconds))}
    if not any(member.queues for member in workers.members):
        return  # nobody has told what it consumes
    for queue in queues:
        if queue.waiting and not queue.paused and not workers.consumers(queue.name):
            words = {"queue": queue.name, "number": _number(queue.waiting)}
            yield _("No worker takes from %(queue)s, where %(number)s messages wait. Start one: celery -A config worker -Q %(queue)s") % words  # fmt: skip


def age(duration: timedelta) -> str:
    """A duration in at most two units: "45 s", "12 m", "3 h 5 m", "18 d 0 h"."""
    seconds = max(0, int(duration.total_seconds()))
    if seconds < 60:
        return _("%d s") % seconds
    if seconds < 3600:
        return _("%d m") % (seconds // 60)
    if seconds < 86_400:
        return _("%(h)d h %(m)d m") % {"h": seconds // 3600, "m": seconds % 3600 // 60}
    return _("%(d)d d %(h)d h") % {"d": seconds // 86_400, "h": seconds % 86_400 // 3600}


def lasting(seconds: float) -> str:
    """How long something ran: "40 ms", "2.5 s", "3 m"."""
    if seconds < 1:
        return _("%d ms") % round(seconds * 1000)
    return _("%s s") % number_format(round(seconds, 1), 1) if seconds < 60 else age(timedelta(seconds=seconds))


def _spark(figures: Figures, name: str) -> Sparkline | None:
    samples = figures.samples.get(name, ())
    return sparkline(samples) if len(samples) > 2 else None


def _open(figures: Figures) -> Tile:
    return Tile(
        page="open", title=_("Open letters"), value=str(figures.open), tone="bad" if figures.open.number else "ok",
        note=_("%s died in 24 h") % _number(figures.died_today), spark=_spark(figures, "open"),
    )  # fmt: skip


def _oldest(figures: Figures) -> Tile:
    if figures.oldest is None:
        return Tile(page="oldest", title=_("Oldest open"), value="–", note=_("nothing waits"), tone="ok")
    waits = figures.at - figures.oldest.died_at
    tone = "bad" if waits >= timedelta(days=1) else "warn"
    return Tile(page="oldest", title=_("Oldest open"), value=age(waits), note=figures.oldest.task_name, tone=tone)


def _failure_rate(figures: Figures) -> Tile:
    rate, title = figures.rates.failure, _("Failed, 1 h")
    if rate is None:
        return Tile(page="failed", title=title, value="–", note=_("nothing finished"), tone="quiet")
    tone = "ok" if rate < FAILING else "warn" if rate < FAILING_BADLY else "bad"
    note = _("%(failed)s of %(all)s tasks") % {
        "failed": _number(figures.rates.failed),
        "all": _number(figures.rates.succeeded + figures.rates.failed),
    }
    return Tile(
        page="failed",
        title=title,
        value=_percent(rate),
        note=note,
        tone=tone,
        spark=sparkline([bin_.failed for bin_ in figures.bins[:-1]]),
    )


def _per_minute(figures: Figures) -> Tile:
    line = sparkline([bin_.finished for bin_ in figures.bins[:-1]])  # the last one is under way
    seconds = figures.rates.seconds
    note = _("each ran %s on average") % lasting(seconds) if seconds is not None else _("last 5 minutes")
    value = number_format(round(figures.rates.per_minute, 1), 1 if 0 < figures.rates.per_minute < 100 else 0)
    return Tile(
        page="results", title=_("Tasks / min"), value=value, note=note, spark=line,
        tone="ok" if figures.rates.per_minute else "quiet",
    )  # fmt: skip


def _queued(figures: Figures) -> Tile:
    if figures.queues is None:
        return Tile(page="queues", title=_("Queued"), value="–", note=_("broker away"), tone="bad")
    fullest = max(figures.queues, key=lambda queue: queue.waiting, default=None)
    waiting = sum(queue.waiting for queue in figures.queues)
    note = f"{fullest.name}: {_number(fullest.waiting)}" if fullest and waiting else _("nothing waits")
    paused = [queue.name for queue in figures.queues if queue.paused]
    if paused:
        note = _("paused: %s") % ", ".join(paused)
    tone = "warn" if waiting >= BACKING_UP or paused else "ok"
    return Tile(page="queues", title=_("Queued"), value=_number(waiting), note=note, tone=tone, spark=_spark(figures, "waiting"))  # fmt: skip


def _workers(figures: Figures) -> Tile:
    title, workers = _("Workers alive"), figures.workers
    if workers is None:
        return Tile(page="workers", title=title, value="–", note=_("broker away"), tone="bad")
    if workers.silent:
        name, seconds = workers.silent[0]
        note = _("%(name)s silent for %(age)s") % {"name": name, "age": age(timedelta(seconds=seconds))}
        value = f"{len(workers.alive)} / {len(workers.alive) + len(workers.silent)}"
        return Tile(page="workers", title=title, value=value, note=note, tone="warn" if workers.alive else "bad")
    if not workers.alive:
        return Tile(page="workers", title=title, value="0", note=_("start one"), tone="bad")
    others = len(workers.alive) - 1
    note = workers.alive[0] + (ngettext(" and %d more", " and %d more", others) % others if others else "")
    return Tile(page="workers", title=title, value=str(len(workers.alive)), note=note, tone="ok", spark=_spark(figures, "workers"))  # fmt: skip


def _beat(figures: Figures) -> Tile:
    title, beat = _("Beat's last tick"), figures.beat
    if beat.age is None:
        tone = "bad" if figures.heartbeat else "quiet"
        return Tile(page="schedules", title=title, value="–", note=_("no beat leads"), tone=tone)
    note = beat.leader + (_(" and %d standing by") % beat.standing_by if beat.standing_by else "")
    late = figures.heartbeat and figures.at - figures.heartbeat > heartbeats.LATE
    return Tile(
        page="schedules", title=title, value=age(beat.age), note=note, tone="bad" if beat.silent or late else "ok"
    )


def _number(value: int) -> str:
    return number_format(value, force_grouping=True)


def _percent(share: float) -> str:
    return number_format(round(share * 100, 1), 1) + " %"  # number_format cuts
