"""RedBeat's side of benchmarks/beat.py: an app for its beat, and commands that write its entries. Runs in the peers' environment."""

import json
import os
import sys
from datetime import UTC, datetime, timedelta

from celery import Celery
from celery.schedules import schedule

app = Celery("bench", broker=os.environ["BROKER_URL"])
app.conf.update(redbeat_redis_url=os.environ["BROKER_URL"], beat_max_loop_interval=1, timezone="UTC")
HOUR = 3600


def fill(number: int, burst: int, burst_at: float) -> None:
    """An overdue entry, `burst` entries that are due at one moment, and others that are due much later."""
    from redbeat import RedBeatSchedulerEntry

    moment = datetime.fromtimestamp(burst_at, UTC)
    for n in range(number):
        last = moment - timedelta(seconds=HOUR) if 0 < n <= burst else datetime.now(UTC)
        last = datetime.now(UTC) - timedelta(hours=2) if n == 0 else last
        entry = RedBeatSchedulerEntry(
            f"row {n}", "bench.nothing", schedule(HOUR), options={"queue": queue_of(n, burst)}, app=app
        )
        entry.last_run_at = last
        entry.save()
        entry.reschedule(last)


def edit(name: str) -> None:
    """Give an entry another interval: it is due in a second."""
    from redbeat import RedBeatSchedulerEntry

    entry = RedBeatSchedulerEntry.from_key(f"redbeat:{name}", app=app)
    entry.schedule, entry.options = schedule(1), {"queue": "edited"}
    entry.last_run_at = datetime.now(UTC)
    entry.save()
    entry.reschedule(datetime.now(UTC))
    print(json.dumps(datetime.now(UTC).timestamp()))


def queue_of(n: int, burst: int) -> str:
    """The queue that tells the kinds of entries apart."""
    return "first" if n == 0 else "burst" if n <= burst else "later"


if __name__ == "__main__":
    if sys.argv[1] == "fill":
        fill(int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
    else:
        edit(sys.argv[2])
