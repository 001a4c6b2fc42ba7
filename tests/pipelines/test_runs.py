"""Runs on a real worker: started, followed, dead, replayed, cancelled."""

import os
import signal
from datetime import timedelta
from functools import partial

import pytest
from celery.signals import before_task_publish
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django_celery_results.models import TaskResult
from kombu.exceptions import OperationalError

from config.celery import app
from config.embedded import Redis, free_port
from deadletters.models import DeadLetter
from deadletters.replay.replay import replay
from pipelines import runs
from pipelines.cancel import NotCancellable, cancel
from pipelines.graph import NotACanvas
from pipelines.models import Run, Step
from pipelines.registry import BadParameter, UnknownPipeline
from pipelines.states import Overall, State
from tests.processes import Worker, eventually

pytestmark = [pytest.mark.worker, pytest.mark.django_db(transaction=True)]


def ended(run, timeout=60):
    return list(runs.follow(run, every=0.1, timeout=timeout))[-1]


@pytest.mark.parametrize(("shape", "outcome"), [("chain", 16), ("pipe", 16), ("group", [4, 8, 16]), ("chord", 28)])
def test_a_run_ends_with_its_value(shape, outcome, worker, admin_user):
    run = runs.start("arithmetic", {"shape": shape}, by=admin_user, origin=Run.Origin.ADMIN)
    progress = ended(run)
    assert progress.overall is Overall.SUCCEEDED
    assert progress.percent == 100
    assert progress.ended_at > run.created_at
    assert runs.result(run) == outcome
    assert (run.started_by, run.origin) == (admin_user, "admin")
    assert runs.overview([run])[run.pk].counts == progress.counts


def test_the_steps_are_the_tasks_that_ran(worker):
    run = runs.start("arithmetic", {})
    ended(run)
    steps = set(run.steps.values_list("task_id", "task_name"))
    assert steps == set(TaskResult.objects.values_list("task_id", "task_name"))
    assert run.parameters == {"shape": "chord"}


def test_a_death_blocks_what_is_behind_it_and_a_replay_sets_it_free(worker, mended, admin_user):
    run = runs.start("test-mends", {"path": str(mended)})
    progress = ended(run)
    assert progress.overall is Overall.FAILED
    assert progress.counts == {State.SUCCEEDED: 3, State.DEAD: 1, State.BLOCKED: 2}
    letter = eventually(lambda: DeadLetter.objects.filter(task_id__in=run.steps.values("task_id")).first())
    assert runs.overview([run])[run.pk].overall is Overall.FAILED
    assert runs.progress(run).counts == progress.counts
    mended.write_text("back")
    replay(letter, by=admin_user)
    progress = ended(run)
    assert progress.overall is Overall.SUCCEEDED
    assert runs.result(run) == ["back", 0, 1]


def test_a_cancelled_run_stops_behind_the_step_that_runs(worker, admin_user):
    run = runs.start("test-sleeps", {"number": 4, "seconds": 2.0})
    eventually(lambda: runs.progress(run).counts[State.RUNNING])
    assert cancel(run, by=admin_user) == 3
    progress = ended(run)
    assert progress.overall is Overall.CANCELLED
    assert progress.counts == {State.SUCCEEDED: 1, State.CANCELLED: 3}
    assert runs.overview([run])[run.pk].overall is Overall.CANCELLED
    run.refresh_from_db()
    assert run.cancelled_by == admin_user
    with pytest.raises(NotCancellable):
        cancel(run, by=admin_user)


def test_a_worker_that_starts_later_has_heard_of_the_cancellation(folder, admin_user):
    run = runs.start("test-wide", {"number": 3, "queue": "asleep"})
    cancel(run, by=admin_user)
    late = Worker(folder, queue="asleep")
    try:
        rows = TaskResult.objects.filter(task_id__in=run.steps.values("task_id"), status="REVOKED")
        eventually(lambda: rows.count() == 3)
    finally:
        late.stop()


def test_a_run_that_has_ended_cannot_be_cancelled(worker):
    run = runs.start("arithmetic", {})
    ended(run)
    with pytest.raises(NotCancellable, match="nothing of it waits"):
        cancel(run, by=None)


def test_a_message_that_is_delivered_twice_starts_its_run_once(worker):
    asked = {"message": "a task's id", "origin": Run.Origin.SCHEDULE}
    run = runs.start_once("arithmetic", {}, **asked)
    assert runs.start_once("arithmetic", {}, **asked) == run
    assert Run.objects.get().sent_at
    # Whether that one was sent nobody knows: it is not waited for.
    Run.objects.update(sent_at=None)
    assert runs.start_once("arithmetic", {}, **asked) != run
    assert runs.sweep(timedelta(0)) == 1
    run.refresh_from_db()
    assert run.problem


def test_a_run_that_the_sweep_gave_up_while_it_was_sent_is_a_run_like_any_other(worker):
    """As one that was recorded in a transaction which took minutes."""

    def sweep(**_):
        runs.sweep(timedelta(0))

    before_task_publish.connect(sweep)
    try:
        run = runs.start("arithmetic", {"shape": "chain"})
    finally:
        before_task_publish.disconnect(sweep)
    run.refresh_from_db()
    assert run.problem == ""
    assert ended(run).overall is Overall.SUCCEEDED


def test_a_run_whose_sender_ended_before_it_could_note_the_sending_is_what_its_tasks_did(worker, admin_client):
    run = runs.start("arithmetic", {"shape": "chain"})
    ended(run)
    Run.objects.update(sent_at=None)
    runs.sweep(timedelta(0))
    run.refresh_from_db()
    assert run.problem
    for progress in (runs.progress(run), runs.overview([run])[run.pk]):
        assert progress.overall is Overall.SUCCEEDED
    page = admin_client.get(f"/pipelines/run/{run.pk}/change/").content.decode()
    assert "could not be sent" not in page


def test_nothing_is_sent_before_the_commit(worker):
    with transaction.atomic():
        runs.start("arithmetic", {})
        transaction.set_rollback(True)
    assert not Run.objects.exists()
    assert not Step.objects.exists()


def test_a_run_that_the_broker_refuses_does_not_look_alive(monkeypatch):
    def away(*_args, **_options):
        raise OperationalError("Connection refused")

    monkeypatch.setattr(app.amqp, "send_task_message", away)
    with pytest.raises(runs.NotSent, match="Connection refused") as refusal:
        runs.start("arithmetic", {})
    run = Run.objects.get()
    assert run == refusal.value.run
    assert run.problem == "Connection refused"
    progress = runs.progress(run)
    assert progress.overall is Overall.NOT_SENT
    assert progress.counts == {State.UNSENT: 4}
    assert not progress.moving
    assert runs.overview([run])[run.pk].counts == progress.counts


def test_a_canvas_that_is_not_json_is_recorded_as_not_sent():
    with pytest.raises(runs.NotSent, match="not JSON serializable"):
        runs.start("test-broken", {})
    assert Run.objects.get().problem


@pytest.mark.parametrize(
    ("name", "parameters", "error"),
    [
        ("arithmetik", {}, UnknownPipeline),
        ("arithmetic", {"shape": "ring"}, BadParameter),
        ("arithmetic", {"colour": "red"}, BadParameter),
        ("test-mends", {}, BadParameter),
        ("test-no-canvas", {}, NotACanvas),
    ],
)
def test_what_cannot_start_leaves_no_run(name, parameters, error):
    with pytest.raises(error):
        runs.start(name, parameters)
    assert not Run.objects.exists()


def test_following_gives_up_in_time(worker):
    run = runs.start("test-sleeps", {"number": 1, "seconds": 5.0})
    with pytest.raises(TimeoutError):
        ended(run, timeout=0.3)
    ended(run)


def test_progress_asks_as_many_questions_for_many_steps_as_for_few(worker):
    small, large = (runs.start("test-wide", {"number": number}) for number in (2, 40))
    ended(large)
    ended(small)
    questions = []
    for run in (small, large):
        with CaptureQueriesContext(
            connection,
        ) as captured:
            runs.progress(run)
            runs.overview([run])
        questions.append(len(captured))
    with CaptureQueriesContext(connection) as captured:
        runs.overview([small, large])
    assert questions == [3, 3]
    assert len(captured) == 1


@pytest.mark.timeout(120)
def test_a_broker_that_hangs_cancels_nothing_and_holds_nobody(tmp_path, monkeypatch, admin_client):
    run = runs.start("test-wide", {"number": 2, "queue": "nobody"})
    redis = Redis(tmp_path / "redis", port=free_port(), password="secret")
    redis.start()
    pid = int((redis.folder / "pid").read_text())
    monkeypatch.setattr(app, "connection_for_write", partial(app.connection_for_write, redis.url))
    os.kill(pid, signal.SIGSTOP)
    try:
        page = admin_client.post(f"/pipelines/run/{run.pk}/cancel/", follow=True)
    finally:
        os.kill(pid, signal.SIGCONT)
        redis.stop()
    assert "The broker does not answer, so nothing was cancelled." in page.text
    run.refresh_from_db()
    assert run.cancelled_at is None
