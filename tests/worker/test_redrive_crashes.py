"""SIGKILL at each step of a redrive: whoever takes it over neither skips a letter nor runs one twice."""

import json
import signal
from datetime import timedelta

import pytest
from celery.result import AsyncResult
from django.utils import timezone

from deadletters.models import DeadLetter, Redrive, RedriveItem, State
from deadletters.redrive import redrive, tend
from deadletters.redrive.redrive import Conditions
from deadletters.replay.sweep import sweep
from deadletters.selection import Selection
from deadletters.tasks import drive_redrive
from tests.processes import Process, Worker, eventually
from tests.tasks import count_run, die_unless

pytestmark = [pytest.mark.worker, pytest.mark.django_db(transaction=True)]

LETTERS = 30
# Drives one redrive in a process of its own, as a worker's child does.
DRIVE = """
import django; django.setup()
from deadletters.redrive import tend
from deadletters.models import Redrive
one = Redrive.objects.get()
tend.drive_on(one.pk, str(one.driver))
"""


@pytest.mark.parametrize("point", ["redrive.claiming", "redrive.claimed", "redrive.published"])
def test_a_driver_killed_at_any_step_is_replaced_and_each_letter_runs_once(worker, tmp_path, point):
    runs = died_and_mended(tmp_path)
    # 10 letters a tick: the crash is in the first of several.
    redrive.start(Selection(), by="ana", conditions=Conditions(rate=50))

    driver = Process("-c", DRIVE, log=tmp_path / "driver.log", FAULT=point, DJANGO_SETTINGS_MODULE="config.settings")
    assert driver.process.wait(60) == -signal.SIGKILL, driver.output
    one = Redrive.objects.get()
    left = RedriveItem.objects.filter(redrive=one).count()
    assert left == (0 if point == "redrive.claiming" else 10)
    assert (one.sent, one.sent_to < one.cursor) == (0, left > 0)

    assert tend.tend()["handed_over"] == 0  # its lease is not over
    Redrive.objects.update(lease_until=timezone.now())
    assert tend.tend()["handed_over"] == 1
    until_done(one)
    assert_each_ran_once(one, runs)


def test_a_redrive_outlives_the_whole_worker_that_drives_it(worker, tmp_path):
    runs = died_and_mended(tmp_path)
    one = redrive.start(Selection(), by="ana", conditions=Conditions(rate=5))

    # It drives, and runs none of the letters: what a killed worker has in its hands runs again, whoever sent it.
    driving = Worker(tmp_path, queue=tmp_path.name)
    try:
        drive_redrive.apply_async((one.pk, str(one.driver)), queue=tmp_path.name)
        eventually(lambda: RedriveItem.objects.filter(redrive=one).count() >= 3, what="the first letters are sent")
    finally:
        driving.stop(signal.SIGKILL)
    one.refresh_from_db()
    assert (one.state, one.cursor < one.upto) == (Redrive.State.SENDING, True)
    before = one.driver

    Redrive.objects.update(lease_until=timezone.now(), rate=50)
    assert tend.tend()["handed_over"] == 1
    until_done(one)
    assert one.driver != before
    assert_each_ran_once(one, runs)


def test_a_driver_killed_after_the_broker_refused_a_slice_leaves_nobody_waiting_and_no_letter_out(worker, tmp_path):
    died_and_mended(tmp_path)
    redrive.start(Selection(), by="ana", conditions=Conditions(rate=50))

    away = {"BROKER_URL": "redis://127.0.0.1:1/0", "FAULT": "replay.taken_back"}
    driver = Process("-c", DRIVE, log=tmp_path / "driver.log", DJANGO_SETTINGS_MODULE="config.settings", **away)
    assert driver.process.wait(60) == -signal.SIGKILL, driver.output
    taken_back = list(DeadLetter.objects.open().filter(replay_number=1))
    assert len(taken_back) == 10
    assert {AsyncResult(one.task_id).state for one in taken_back} == {"PENDING"}
    assert sweep(timedelta()).failed_again == 10
    assert {AsyncResult(one.task_id).state for one in taken_back} == {"FAILURE"}

    Redrive.objects.update(lease_until=timezone.now())
    assert tend.tend()["handed_over"] == 1
    one = Redrive.objects.get()
    until_done(one)
    assert (one.sent, one.succeeded, one.died, one.skipped) == (LETTERS, LETTERS, 0, 0)
    assert DeadLetter.objects.filter(state=State.RESOLVED).count() == LETTERS


def died_and_mended(folder):
    """LETTERS open letters whose cause is mended; where those that run note it."""
    missing, runs = folder / "missing", folder / "runs"
    for number in range(LETTERS):
        die_unless.apply_async((str(missing), number), link=count_run.s(path=str(runs)))
    eventually(lambda: DeadLetter.objects.open().count() == LETTERS)
    missing.touch()
    return runs


def until_done(one):
    def done():
        tend.tend()
        one.refresh_from_db()
        return one.state == Redrive.State.DONE

    eventually(done, what="the redrive is done")


def assert_each_ran_once(one, runs):
    assert (one.sent, one.succeeded, one.died, one.skipped) == (LETTERS, LETTERS, 0, 0)
    assert DeadLetter.objects.filter(state=State.RESOLVED, replay_number=1).count() == LETTERS
    eventually(lambda: len(runs.read_text().splitlines()) >= LETTERS)
    assert sorted(json.loads(line) for line in runs.read_text().splitlines()) == list(range(LETTERS))
