"""What is found out before a replay, with a real worker to ask."""

import signal
from datetime import timedelta

import pytest
from celery import shared_task
from django.utils import timezone
from django_celery_results.models import TaskResult

from deadletters.models import Cause, DeadLetter, RedriveItem, State
from deadletters.redrive import drive, redrive
from deadletters.replay import cluster
from deadletters.replay.cluster import inspection
from deadletters.replay.edit import Edit, edit_and_replay
from deadletters.replay.preflight import Verdict, preflight
from deadletters.selection import Selection
from tests.deadletters.letters import letter
from tests.processes import Worker, eventually
from tests.tasks import total

pytestmark = [pytest.mark.worker, pytest.mark.django_db(transaction=True)]

GOOD = {
    "task_name": "tests.total",
    "queue": "default",
    "body": b'[[1, 2], {"times": 3}, {"chain": null, "chord": null}]',
}


@shared_task(name="tests.known_here")
def known_here(first, second, times=1):
    """A task of this process alone."""


@pytest.fixture(autouse=True)
def asked_anew(worker):
    inspection.forget()
    yield
    inspection.forget()


@pytest.mark.parametrize(
    ("fields", "verdict", "says"),
    [
        ({}, Verdict.REPLAYABLE, ""),
        ({"task_name": "no.worker.knows.it"}, Verdict.BLOCKED, "No worker knows the task"),
        ({"task_name": ""}, Verdict.BLOCKED, "It names no task"),
        ({"body": b"[[1], {}, {}]"}, Verdict.BLOCKED, "do not fit"),
        ({"queue": "nobody-there"}, Verdict.LOOK, "No worker consumes the queue nobody-there"),
        ({"died_at": timezone.now() - timedelta(days=30)}, Verdict.LOOK, "30 days ago"),
        ({"cause": Cause.POISON}, Verdict.LOOK, "went down"),
        ({"state": State.DISCARDED}, Verdict.BLOCKED, "restore the letter first"),
        ({"queue": ""}, Verdict.BLOCKED, "not known which queue"),
        ({"task_id": "message:1"}, Verdict.BLOCKED, "no task message"),
        ({"group_id": "g", "body": b'[[1, 2], {}, {"chord": {"task": "t", "options": {"task_id": "b"}}}]'}, Verdict.BLOCKED, "chord"),
    ],
)  # fmt: skip
def test_the_verdict_on_a_letter(fields, verdict, says):
    (check,) = preflight([letter(0, **{**GOOD, **fields})])
    assert check.verdict == verdict
    assert says in " ".join(check.reasons)


def test_what_has_succeeded_meanwhile_is_blocked_and_a_redrive_leaves_it_out():
    done, fine, misfit = letter(0, **GOOD), letter(0, **GOOD), letter(0, **{**GOOD, "body": b"[[], {}, {}]"})
    TaskResult.objects.create(
        task_id=done.task_id, status="SUCCESS", content_type="application/json", content_encoding="utf-8", result="9"
    )
    assert [check.verdict for check in preflight([done, fine])] == [Verdict.BLOCKED, Verdict.REPLAYABLE]
    one = redrive.start(Selection(), by="ana")
    driver = drive.driver_of(one)
    driver.drive(20)
    driver.publisher.close()
    one.refresh_from_db()
    assert (one.sent, one.skipped) == (1, 2)
    whys = dict(RedriveItem.objects.filter(outcome="skipped").values_list("dead_letter_id", "why"))
    assert "succeeded meanwhile" in whys[done.pk]
    assert "do not fit" in whys[misfit.pk]


def test_what_this_process_knows_is_sent_although_no_worker_that_answered_knows_it():
    (check,) = preflight([letter(0, **{**GOOD, "task_name": known_here.name, "queue": "nobody-there"})])
    assert check.verdict == Verdict.LOOK
    assert check.reasons == ["No worker that answered knows the task tests.known_here."]
    one = redrive.start(Selection(), by="ana")
    driver = drive.driver_of(one)
    driver.drive(20)
    driver.publisher.close()
    one.refresh_from_db()
    assert (one.sent, one.skipped) == (1, 0)


def test_a_worker_that_does_not_answer_this_once_is_remembered(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "FRESH_SECONDS", 0.0)
    busy = Worker(tmp_path, queue="busy")
    try:
        eventually(lambda: {"busy", "default"} <= inspection.cluster().queues.keys(), what="both have answered")
        busy.process.send_signal(signal.SIGSTOP)
        known = eventually(lambda: (answered := inspection.cluster()).asked and answered)
        assert {"busy", "default"} <= known.queues.keys()
        monkeypatch.setattr(cluster, "REMEMBERED_SECONDS", 0.0)
        eventually(lambda: inspection.cluster().queues.keys() == {"default"}, what="it is forgotten")
    finally:
        busy.stop(signal.SIGKILL)


def test_what_a_replay_sets_free_is_named():
    step = '{"task": "tests.add", "args": [], "kwargs": {}, "options": {"task_id": "next"}}'
    body = f'[[1, 2], {{}}, {{"chain": [{step}], "chord": null}}]'.encode()
    (check,) = preflight([letter(0, **{**GOOD, "body": body})])
    assert (check.frees.names, check.as_dict()["frees"]) == (["tests.add"], ["tests.add"])


def test_an_edited_letter_runs_with_its_new_arguments():
    result = total.delay(1, "two")
    dead = eventually(lambda: DeadLetter.objects.open().first())
    edit_and_replay(dead, Edit(args=[1, 2], kwargs={"times": 10}, queue="default", delay=1), by=None, reason="a typo")
    eventually(result.successful)
    assert result.get(timeout=20) == 30
    eventually(lambda: DeadLetter.objects.filter(state=State.RESOLVED).exists())
