"""What a schedule that is being edited would do: words, warning, next runs."""

from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

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
    here: datetime  # on the clocks of the person who looks
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

    @property
    def elsewhere(self) -> str:
        """The zone of the person who looks, where its clocks show other times than those of the schedule."""
        differ = any(run.at.utcoffset() != run.here.utcoffset() for run in self.runs)
        return timezone.get_current_timezone_name() if differ else ""


def preview(schedule: Schedule) -> Preview:
    """The preview of a schedule that may not be saved yet. It is not written; beat's arithmetic is asked."""
    if not schedule.scheduler:
        return Preview(error=_("It has no time to run at."))
    schedule = edit.as_edited(schedule)
    if schedule.problem:
        return Preview(error=schedule.problem)
    timing, zone = schedule.timing, schedule.zone
    found = list(islice(schedule.next_runs(), RUNS_SHOWN))
    now = timezone.now()
    return Preview(
        words=schedule.words,
        zone=zone.key,
        warning=timing.warning() if isinstance(timing, Cron) else "",
        runs=_runs(found, zone, now),
        far=any(run.astimezone(zone).year != now.astimezone(zone).year for run in found),
    )


def _runs(found: list[datetime], zone: ZoneInfo, now: datetime) -> list[Run]:
    """On both clocks; the clocks of the schedule changed before a run when its distance from UTC is another than at the one before."""
    offsets = [run.astimezone(zone).utcoffset() for run in [now, *found]]
    shifts = [before != after for before, after in pairwise(offsets)]
    here = timezone.get_current_timezone()
    return [
        Run(at=at.astimezone(zone), here=at.astimezone(here), shifted=shifted)
        for at, shifted in zip(found, shifts, strict=True)
    ]
