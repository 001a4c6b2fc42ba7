"""A process that dies at any step of a replay, or of sending a chord's body: what it left is settled, and nothing runs twice."""

import signal
import subprocess
import sys
from datetime import timedelta

import pytest
from celery import chain, chord
from django.db import transaction
from django.utils import timezone

from config.celery import app
from deadletters.models import DeadLetter, Event, State
from deadletters.replay.claim import claim, message, take_back
from deadletters.replay.discard import discard, restore
from deadletters.replay.replay import publish, replay
from deadletters.replay.sweep import sweep
from pipelines import chords
from pipelines.models import Chord
from tests.processes import ROOT, Worker, environment, eventually
from tests.rabbitmq import publishing_to
from tests.results import succeeded, value
from tests.tasks import count_run, echo, member

pytestmark = [pytest.mark.worker, pytest.mark.django_db(transaction=True)]
NOW = timedelta(0)


@pytest.fixture
def dead(worker, tmp_path):
    """A letter in the middle of a chain, its cause mended, and the chain's result."""
    folder = tmp_path / "canvas"
    folder.mkdir()
    (folder / "b").write_text("raise")
    result = chain(member.s(label=label, folder=str(folder)) for label in "abc").apply_async()
    letter = eventually(lambda: DeadLetter.objects.open().first())
    eventually(lambda: app.backend.get_state(result.id) == "FAILURE")
    letter.ran = folder / "ran"
    letter.result = result
    return letter


def ran(letter):
    return letter.ran.read_text().split()


def killed_at(point, letter, command="replay_dead_letters", *options):
    """Replay (or do else) in a process of its own that ends at `point`."""
    done = subprocess.run(
        [sys.executable, "manage.py", command, str(letter.pk), *options],
        cwd=ROOT,
        env=environment(FAULT=point),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


def settled(letter):
    eventually(lambda: succeeded(letter.result), what="the chain's end")
    eventually(
        lambda: DeadLetter.objects.filter(pk=letter.pk, state=State.RESOLVED).exists(), what="the letter resolved"
    )
    assert value(letter.result) == ["c", ["b", ["a"]]]
    assert ran(letter) == ["a", "b", "c"]


def test_killed_within_the_claim_it_is_open_and_dead_as_before(dead):
    killed_at("replay.claiming", dead)
    dead.refresh_from_db()
    assert (dead.state, dead.replay_number) == (State.OPEN, 0)
    assert app.backend.get_state(dead.result.id) == "FAILURE"
    replay(dead, by=None)
    settled(dead)


def test_killed_before_it_was_sent_the_sweep_sends_it(dead):
    killed_at("replay.claimed", dead)
    dead.refresh_from_db()
    assert (dead.state, dead.sent_at) == (State.REPLAYING, None)
    assert sweep(timedelta(hours=1)).sent == 0
    assert sweep(NOW).sent == 1
    settled(dead)
    assert sweep(NOW).sent == 0


def test_killed_after_it_was_sent_it_runs_once(dead):
    killed_at("replay.sent", dead)
    settled(dead)
    assert sweep(NOW).sent == 0
    settled(dead)


def test_a_second_copy_is_dropped_whichever_comes_first(dead, worker):
    claimed = _claimed(dead)
    for _ in range(3):
        publish(app, claimed, message(claimed))
    settled(dead)
    eventually(lambda: worker.output.count("message.superseded") >= 2)
    settled(dead)
    assert app.backend.get_state(dead.task_id) == "SUCCESS"


def test_what_the_sweep_sent_although_it_had_been_sent_is_dropped(dead, worker):
    claimed = _claimed(dead)
    publish(app, claimed, message(claimed))  # and the process dies before it notes that
    settled(dead)
    DeadLetter.objects.filter(pk=dead.pk).update(
        state=State.REPLAYING, started_copy=None
    )  # as if the worker were slower
    assert sweep(NOW).sent == 1
    eventually(lambda: DeadLetter.objects.filter(pk=dead.pk).exclude(started_copy=None).exists())
    eventually(lambda: DeadLetter.objects.filter(pk=dead.pk, state=State.RESOLVED).exists())


def test_a_copy_of_a_letter_that_was_taken_back_never_runs(dead, worker):
    claimed = _claimed(dead)
    late = message(claimed)
    assert take_back([claimed], by=None, why="no answer") == 1
    assert app.backend.get_state(dead.result.id) == "FAILURE"
    dropped = worker.output.count("message.superseded")
    publish(app, claimed, late)
    eventually(lambda: worker.output.count("message.superseded") > dropped)
    assert ran(dead) == ["a"]
    replay(dead, by=None)
    settled(dead)


def test_what_a_worker_has_begun_cannot_be_taken_back(dead):
    claimed = _claimed(dead)
    publish(app, claimed, message(claimed))
    eventually(lambda: DeadLetter.objects.filter(pk=dead.pk).exclude(started_copy=None).exists())
    assert take_back([claimed], by=None, why="no answer") == 0
    settled(dead)


def test_killed_between_opening_it_again_and_failing_its_workflow_the_sweep_fails_it(dead):
    with publishing_to("redis://127.0.0.1:1/0"):
        killed = subprocess.run(
            [sys.executable, "manage.py", "replay_dead_letters", str(dead.pk)],
            cwd=ROOT,
            env=environment(FAULT="replay.taken_back", BROKER_URL="redis://127.0.0.1:1/0"),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    dead.refresh_from_db()
    assert dead.state == State.OPEN
    assert app.backend.get_state(dead.result.id) == "PENDING"
    assert sweep(NOW).failed_again == 1
    assert app.backend.get_state(dead.result.id) == "FAILURE"
    assert sweep(NOW).failed_again == 0
    replay(dead, by=None)
    settled(dead)


def test_who_waits_for_a_replay_that_is_discarded_is_told_the_failure_and_its_message_is_dropped(dead, worker):
    claimed = _claimed(dead)
    late = message(claimed)
    assert app.backend.get_state(dead.result.id) == "PENDING"
    discard(claimed, by=None, reason="its message is lost")
    assert app.backend.get_state(dead.result.id) == "FAILURE"
    dropped = worker.output.count("message.superseded")
    publish(app, claimed, late)
    eventually(lambda: worker.output.count("message.superseded") > dropped)
    assert sweep(NOW).failed_again == 0
    assert app.backend.get_state(dead.result.id) == "FAILURE"
    restore(claimed, by=None)
    replay(dead, by=None)
    settled(dead)


def test_killed_between_discarding_a_replay_and_failing_its_workflow_the_sweep_fails_it(dead):
    _claimed(dead)
    DeadLetter.objects.filter(pk=dead.pk).update(sent_at=timezone.now())
    killed_at("discard.committed", dead, "discard_dead_letters", "--reason", "its message is lost")
    dead.refresh_from_db()
    assert dead.state == State.DISCARDED
    assert app.backend.get_state(dead.result.id) == "PENDING"
    assert sweep(NOW).failed_again == 1
    assert app.backend.get_state(dead.result.id) == "FAILURE"
    assert sweep(NOW).failed_again == 0


def test_a_success_that_could_not_be_noted_is_found_by_the_sweep(dead):
    replay(dead, by=None)
    settled(dead)
    Event.objects.filter(dead_letter=dead, kind=Event.Kind.SUCCEEDED).delete()
    DeadLetter.objects.filter(pk=dead.pk).update(state=State.REPLAYING)  # as if the settling write had failed
    assert sweep(NOW).settled == 1
    settled(dead)


def test_a_death_that_could_not_be_noted_is_found_by_the_sweep(dead):
    (dead.ran.parent / "b").write_text("raise")
    replay(dead, by=None)
    eventually(lambda: DeadLetter.objects.filter(pk=dead.pk, deaths=2, state=State.OPEN).exists())
    DeadLetter.objects.filter(pk=dead.pk).update(state=State.REPLAYING)  # as if the capture had failed
    assert sweep(NOW).settled == 1
    dead.refresh_from_db()
    assert (dead.state, dead.deaths, dead.exception_type) == (State.OPEN, 3, "ValueError")
    replay(dead, by=None)
    settled(dead)


def test_an_open_letter_whose_task_has_succeeded_is_resolved_by_the_sweep(dead):
    replay(dead, by=None)
    settled(dead)
    DeadLetter.objects.filter(pk=dead.pk).update(state=State.OPEN)  # a copy that lived on
    assert sweep(NOW).settled == 1
    settled(dead)


@pytest.mark.parametrize("point", ["chord.decided", "chord.body_sent"])
def test_a_worker_killed_while_it_sends_a_body_sends_it_once(django_db_setup, tmp_path, point):
    runs = tmp_path / "runs"
    doomed = Worker(tmp_path, queue="doomed", concurrency=1, FAULT=point)
    try:
        header = [echo.si(n).set(queue="doomed") for n in (1, 2)]
        result = chord(header)(count_run.s(path=str(runs)).set(queue="bodies"))
        barrier = eventually(lambda: Chord.objects.filter(state=Chord.State.DISPATCHING).first())
        with app.connection_for_write() as broker:
            bodies = broker.default_channel.client
            eventually(lambda: point == "chord.decided" or bodies.llen("bodies") == 1, what="the body is sent")
    finally:
        doomed.stop(signal.SIGKILL)
    # The body waits in its queue, or it does not: nobody can tell, so a copy is sent.
    Chord.objects.filter(pk=barrier.pk).update(updated_at=timezone.now() - timedelta(minutes=5))
    assert chords.sweep(app.backend) == 1
    with app.connection_for_write() as broker:
        assert broker.default_channel.client.llen("bodies") == (2 if point == "chord.body_sent" else 1)
    healthy = Worker(tmp_path, queue="bodies")
    try:
        eventually(lambda: app.backend.get_state(result.id) == "SUCCESS")
        eventually(lambda: point == "chord.decided" or "message.superseded" in healthy.output)
        assert runs.read_text() == "[1, 2]\n"
    finally:
        healthy.stop()


def _claimed(letter):
    with transaction.atomic():
        (claimed,) = claim([letter.pk], by=None).letters
    return claimed
