"""What a schedule that is being edited would do: words, warning, next runs."""

from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice, pairwise

from django.utils import timezone
from django.utils.translation import gettext as _

from schedules import edit
from schedules.due import Cron
from schedules.models import Schedule

RUNS_SHOWN = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One coming run, on the clocks of the schedule; `shifted` when they were put forward or back since the one before."""

    at: datetime
    shifted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """Either `error`, or the rest."""

    error: str = ""
    words: str = ""
    zone: str = ""
    warning: str = ""
    runs: list[Run] = field(default_factory=list)
    far: bool = False  # not all in this year


def preview(schedule: Schedule) -> Preview:
    """The preview of a schedule that may not be saved yet. It is not written; beat's arithmetic is asked."""
    if not schedule.scheduler:
        return Preview(error=_("It has no time to run at."))
    before = Schedule.objects.filter(pk=schedule.pk).first() if schedule.pk else None
    if before and edit.counts_anew(before, schedule):
        schedule.last_run_at = None
        schedule.date_changed = None
    if schedule.problem:
        return Preview(error=schedule.problem)
    timing, zone = schedule.timing, schedule.zone
    found = [run.astimezone(zone) for run in islice(schedule.next_runs(), RUNS_SHOWN)]
    return Preview(
        words=schedule.words,
        zone=zone.key,
        warning=timing.warning() if isinstance(timing, Cron) else "",
        runs=_mark_shifts(found),
        far=any(run.year != timezone.now().astimezone(zone).year for run in found),
    )


def _mark_shifts(runs: list[datetime]) -> list[Run]:
    shifts = [False, *(before.utcoffset() != after.utcoffset() for before, after in pairwise(runs))]
    return [Run(at=at, shifted=shifted) for at, shifted in zip(runs, shifts, strict=True)]
