"""The leader fails at the worst moments, and each due time still runs once."""

import json
import os
import signal
from collections import Counter
from datetime import timedelta
from itertools import pairwise

import pytest
from django.utils import timezone

from schedules.history import Beat, Occurrence
from schedules.models import Schedule
from tests.processes import Worker, eventually
from tests.worker.beats import BeatProcess, every

pytestmark = [pytest.mark.worker, pytest.mark.django_db(transaction=True)]


@pytest.fixture(scope="module")
def window_worker(django_db_setup, tmp_path_factory):
    process = Worker(tmp_path_factory.mktemp("windows"), queue="windows")
    yield process
    process.stop()


@pytest.fixture
def started():
    running = []
    yield running
    for one in running:
        if one.alive:
            os.kill(one.process.pid, signal.SIGCONT)
        one.stop()


def fail_once(folder, started, fault, at, **extra):
    """A leader that fails, another beat that takes over, and what ran in the end, by task id."""
    log = folder / "ran"
    log.touch()
    every(
        "Window",
        task="tests.note",
        queue="windows",
        kwargs={"label": "window", "log": str(log)},
        policy={"missed": "all"},
    )
    first = BeatProcess(folder / "first.log", module="tests.worker.faulty_beat", FAULT=fault, FAULT_AT=at, **extra)
    started.append(first)
    eventually(lambda: first.leads, what="the first beat leads")
    second = BeatProcess(folder / "second.log", **extra)
    started.append(second)
    eventually(lambda: second.leads, what="the second beat takes over")
    since = timezone.now()
    eventually(lambda: Occurrence.objects.filter(due_at__gt=since, state="sent").exists(), what="it goes on")
    if fault == "stop":
        os.kill(first.process.pid, signal.SIGCONT)
        first.wait_for("schedules.stepped_down")
    more = timezone.now() + timedelta(seconds=1)
    eventually(lambda: Occurrence.objects.filter(due_at__gt=more, state="sent").exists(), what="it still goes on")
    Schedule.objects.update(enabled=False)
    eventually(lambda: not Occurrence.objects.filter(state="claimed").exists(), what="all that was claimed is settled")
    sent = {str(pk) for pk in Occurrence.objects.filter(state="sent").values_list("pk", flat=True)}

    def all_ran():
        ran = Counter(json.loads(line)[0] for line in log.read_text().splitlines())
        return ran if sent <= set(ran) else None

    return eventually(all_ran, what="all that was sent has run")


def assert_once_each(ran):
    due = list(Occurrence.objects.order_by("due_at").values_list("due_at", flat=True))
    assert {round((later - first).total_seconds()) for first, later in pairwise(due)} == {1}
    assert set(ran.values()) == {1}
    assert len(ran) == len(due)


@pytest.mark.parametrize("at", ["unflushed", "unmarked"])
def test_a_leader_that_is_stopped_between_claim_and_mark_and_wakes_up_later_doubles_nothing(
    window_worker, folder, started, at
):
    dropped = window_worker.output.count("occurrence.second_copy_dropped")
    assert_once_each(fail_once(folder, started, "stop", at))
    # Both beats did send it: without the worker's look it would have run twice.
    eventually(lambda: window_worker.output.count("occurrence.second_copy_dropped") > dropped)


@pytest.mark.parametrize("at", ["claimed", "unmarked"])
def test_a_leader_that_is_killed_between_claim_and_mark_is_settled_by_the_next(window_worker, folder, started, at):
    assert_once_each(fail_once(folder, started, "kill", at))


@pytest.mark.rabbitmq
def test_on_rabbitmq_too_a_leader_that_wakes_up_doubles_nothing(folder, started, rabbitmq_url):
    worker = Worker(folder, queue="windows", BROKER_URL=rabbitmq_url)
    try:
        assert_once_each(fail_once(folder, started, "stop", "trusted", BROKER_URL=rabbitmq_url))
        eventually(lambda: worker.output.count("occurrence.second_copy_dropped") >= 1)
    finally:
        worker.stop()


def test_a_clock_that_jumps_by_an_hour_changes_nothing(folder, started):
    every("Second", queue="nobody-listens")
    every("Hourly", 50, "minutes", queue="nobody-listens")
    beat = BeatProcess(folder / "beat.log", module="tests.worker.faulty_beat", FAULT="clock", FAULT_AT="claimed")
    started.append(beat)
    eventually(lambda: Occurrence.objects.filter(state="sent").count() >= 6, what="six seconds of runs")
    assert beat.leads
    assert not Occurrence.objects.filter(name="Hourly").exists()
    assert all(abs(one.sent_at - one.due_at) < timedelta(seconds=30) for one in Occurrence.objects.filter(state="sent"))
    due = list(Occurrence.objects.order_by("due_at").values_list("due_at", flat=True))
    assert {round((later - first).total_seconds()) for first, later in pairwise(due)} == {1}


def test_beats_that_stand_by_are_seen_and_do_nothing(folder, started):
    every("Second", queue="nobody-listens")
    for number in range(2):
        started.append(BeatProcess(folder / f"{number}.log"))
    eventually(lambda: Beat.objects.count() == 2 and Occurrence.objects.filter(state="sent").count() >= 3)
    assert Beat.objects.filter(leads_since=None).count() == 1
    standby = next(one for one in started if not one.leads)
    assert "schedule.sent" not in standby.output
    standby.stop()
    leader = started[1 - started.index(standby)]
    leader.stop()
    # Told to end, it gives the lock back at once.
    assert "schedules.stepped_down" not in leader.output
