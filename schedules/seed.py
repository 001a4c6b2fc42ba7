"""The default schedules: creates what is missing, changes nothing."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from zoneinfo import ZoneInfo

from celery import current_app
from django.db import connection, transaction

from schedules import edit
from schedules.due import Cron, Every
from schedules.models import Schedule

# Two seeders at once take turns; the number only has to be ours.
LOCK = 0x5EED


@dataclass(frozen=True, slots=True, kw_only=True)
class Seed:
    """One default schedule. `when` is a cron line in Celery's time zone, or an interval."""

    name: str
    task: str
    when: str | Every
    description: str
    args: Sequence[object] = ()
    kwargs: Mapping[str, object] = field(default_factory=dict)
    enabled: bool = True


SEEDS = (
    Seed(
        name="Heartbeat",
        task="monitoring.heartbeat",
        when=Every(number=60, period="seconds"),
        description="Shows that beat, broker, worker and database work together.",
    ),
    Seed(
        name="Hourly self-test",
        task="pipelines.run_pipeline",
        when="0 * * * *",
        kwargs={"name": "arithmetic", "parameters": {"shape": "chord"}},
        description="Runs a small pipeline through the whole chain.",
    ),
    Seed(
        name="Daily report",
        task="monitoring.daily_report",
        when="0 9 * * *",
        description="The last day's figures, by mail.",
    ),
    Seed(
        name="Weekday digest",
        task="monitoring.digest",
        when="0 9 * * 1-5",
        description="What is dead and open, for those who come to work.",
    ),
    Seed(
        name="Monthly clean-up",
        task="monitoring.clean_up",
        when="0 0 1 * *",
        description="Prunes what is older than RETENTION_DAYS.",
    ),
    Seed(
        name="Chord sweep",
        task="pipelines.sweep_chords",
        when=Every(number=60, period="seconds"),
        description="Settles chords that a crash left behind between their last part and their body.",
    ),
    Seed(
        name="Dead letter sweep",
        task="deadletters.sweep",
        when=Every(number=60, period="seconds"),
        description="Settles replays that a crash left between claimed, sent and settled.",
    ),
    Seed(
        name="Redrives",
        task="deadletters.tend_redrives",
        when=Every(number=15, period="seconds"),
        description="Counts what became of redriven letters, and drives on a redrive whose worker died.",
    ),
    Seed(
        name="Example with arguments",
        task="monitoring.echo",
        when=Every(number=30, period="seconds"),
        args=("arg1", "arg2"),
        kwargs={"key": "value"},
        enabled=False,
        description="Shows how positional and keyword arguments are given. Off.",
    ),
)


@transaction.atomic
def seed() -> list[str]:
    """Create the default schedules that are missing, by name. Returns the names that were created.

    Safe when two run at once. A row that exists is left as an operator made it; one that was deleted comes back, so turn
    off what you don't want.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
    there = set(Schedule.objects.filter(name__in=[one.name for one in SEEDS]).values_list("name", flat=True))
    missing = [one for one in SEEDS if one.name not in there]
    for one in missing:
        _create(one)
    return [one.name for one in missing]


def _create(one: Seed) -> None:
    schedule = Schedule(
        name=one.name,
        task=one.task,
        args=json.dumps(list(one.args)),
        kwargs=json.dumps(dict(one.kwargs)),
        enabled=one.enabled,
        description=one.description,
    )
    zone = ZoneInfo(str(current_app.conf.timezone))
    edit.place(schedule, Cron.parse(one.when, zone) if isinstance(one.when, str) else one.when)
    edit.save(schedule)
