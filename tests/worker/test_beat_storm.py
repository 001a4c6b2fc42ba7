"""Three beats and a storm: whoever leads is killed, stopped or cut off, and every due time still runs exactly once."""

import os

import pytest

from tests.processes import Worker
from tests.worker.beats import storm

pytestmark = [pytest.mark.worker, pytest.mark.chaos, pytest.mark.django_db(transaction=True)]
# `python -m tests.chaos_beat` is the long form.
SECONDS = float(os.environ.get("REDELIVER_STORM_SECONDS", "20"))


def run(folder, capsys, **extra):
    log = folder / "ran"
    log.touch()
    worker = Worker(folder, queue="storm", **extra)
    try:
        report = storm(folder, worker, log, SECONDS, queue="storm", **extra)
    finally:
        worker.stop()
    with capsys.disabled():
        print(f"\n{report}")  # noqa: T201  (the failover times are to be seen)
    return report


@pytest.mark.timeout(SECONDS * 3 + 240)
def test_nothing_is_missed_or_doubled_in_a_storm_on_redis(folder, capsys):
    report = run(folder, capsys)
    assert (report.doubles, report.missed) == (0, 0)


@pytest.mark.rabbitmq
@pytest.mark.timeout(SECONDS * 3 + 240)
def test_nothing_is_missed_or_doubled_in_a_storm_on_rabbitmq(folder, capsys, rabbitmq_url):
    report = run(folder, capsys, BROKER_URL=rabbitmq_url)
    assert (report.doubles, report.missed) == (0, 0)
