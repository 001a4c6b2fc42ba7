"""A worker that is killed as a whole: what it held runs again, what it had acknowledged is a letter, and nothing twice."""

import json
import os
import signal
import time
from datetime import timedelta

import pytest
from celery import chord, current_app
from celery.exceptions import WorkerLostError
from django.db import connection, transaction
from django.utils import timezone
from django_celery_results.models import TaskResult
from kombu import Consumer, Queue

from deadletters.capture import ledger, transport, unacked
from deadletters.capture.capture import capture
from deadletters.capture.reaper import reap
from deadletters.models import Cause, DeadLetter, Event, State
from deadletters.replay.replay import replay
from deadletters.workers import EarlyStart, Starts
from deadletters.workers import Worker as Row
from tests import tasks
from tests.deadletters.test_capture import death as a_death
from tests.processes import Worker, eventually, manage, waits_for_a_lock
from tests.rabbitmq import publishing_to
from tests.worker.test_replay import at_once

pytestmark = [pytest.mark.worker, pytest.mark.django_db(transaction=True)]

on_redis = pytest.mark.parametrize("broker", ["redis"], indirect=True)
# Short enough to wait for, long enough for a machine that stalls.
SILENCE = "6"


@pytest.fixture(params=["redis", pytest.param("rabbitmq", marks=pytest.mark.rabbitmq)])
def broker(request):
    if request.param == "redis":
        with current_app.connection_for_read() as connected:
            # What workers of other tests held when they were killed is none of this one's.
            connected.default_channel.client.delete("unacked", "unacked_index", unacked.OWNERS)
        yield {"WORKER_LOST_AFTER": SILENCE}
        return
    url = request.getfixturevalue("rabbitmq_url")
    with publishing_to(url, confirm_publish=True):
        yield {"WORKER_LOST_AFTER": SILENCE, "BROKER_URL": url}


@pytest.fixture
def workers(folder, broker):
    """Starts workers on this test's queue, and ends them."""
    started = []

    def start(**extra):
        worker = Worker(folder, queue=folder.name, concurrency=2, **broker, **extra)
        started.append(worker)
        return worker

    yield start
    for worker in started:
        worker.stop(signal.SIGKILL)


class Held:
    """A task that runs until it is released."""

    def __init__(self, folder, task, queue="", **options):
        self.log, self.release = folder / "log", folder / "release"
        self.result = task.apply_async([str(self.log), str(self.release)], queue=queue or folder.name, **options)

    @property
    def starts(self):
        return self.log.read_text().splitlines() if self.log.exists() else []

    def row(self, status):
        return TaskResult.objects.filter(task_id=self.result.id, status=status).first()


def early():
    return current_app.tasks["tests.hold.early"]


def kill(worker, *, children):
    """As the kernel would, or (with `children`) as a power cut."""
    if children:
        os.killpg(worker.process.pid, signal.SIGKILL)
    worker.process.kill()
    worker.process.wait()


@pytest.mark.parametrize("children", [False, True], ids=["main process", "power cut"])
def test_what_a_killed_worker_had_not_acknowledged_runs_again_soon(workers, folder, children):
    first = workers()
    held = Held(folder, tasks.hold)
    eventually(lambda: held.starts)
    kill(first, children=children)
    workers()
    eventually(lambda: len(held.starts) == 2, patience=45, what="the second start")
    held.release.touch()
    assert eventually(lambda: held.row("SUCCESS")).result == '"held"'
    assert not DeadLetter.objects.exists()


@pytest.mark.parametrize("children", [True], ids=["power cut"])
def test_what_a_killed_worker_had_acknowledged_becomes_one_letter(workers, folder, children):
    first, second, third = workers(), workers(), workers()
    held = Held(folder, early())
    eventually(lambda: held.starts)
    victim = next(w for w in (first, second, third) if w.name in held.starts[0])
    eventually(lambda: active(victim), what="it is acknowledged")
    kill(victim, children=children)
    letter = eventually(lambda: DeadLetter.objects.filter(task_id=held.result.id).first(), patience=45)
    assert (letter.cause, letter.worker, letter.state) == (Cause.WORKER_LOST, victim.name, State.OPEN)
    assert letter.started_at
    assert eventually(lambda: held.row("FAILURE"))
    assert letter.deaths == letter.events.filter(kind=Event.Kind.DIED).count() == 1
    eventually(lambda: not Row.objects.filter(name=victim.name).exists())
    assert not EarlyStart.objects.exists()
    assert len(held.starts) == 1


@on_redis
@pytest.mark.parametrize("ignored", [False, True], ids=["with a result", "without a result"])
def test_what_had_finished_when_its_worker_was_killed_is_not_dead(workers, folder, ignored):
    first = workers()
    held = Held(folder, early(), ignore_result=ignored)
    eventually(lambda: held.starts and EarlyStart.objects.exists())
    os.kill(first.process.pid, signal.SIGSTOP)  # the main process will never hear of the end
    held.release.touch()
    first.wait_for(f"[{held.result.id}] succeeded")
    kill(first, children=False)
    workers()
    eventually(lambda: not Row.objects.filter(name=first.name).exists(), patience=45, what="the lost worker is buried")
    assert not DeadLetter.objects.exists()
    assert not EarlyStart.objects.exists()


@on_redis
@pytest.mark.parametrize("ignored", [False, True], ids=["with a result", "without a result"])
def test_what_may_start_once_does_not_when_its_acknowledgement_was_lost(workers, folder, ignored):
    first = workers()
    held = Held(folder, current_app.tasks["tests.hold.once"], ignore_result=ignored)
    eventually(lambda: held.starts)
    first.process.send_signal(signal.SIGSTOP)  # the main process will never hear of the end
    held.release.touch()
    first.wait_for(f"[{held.result.id}] succeeded")
    kill(first, children=True)
    second = workers()
    if ignored:
        assert eventually(DeadLetter.objects.first, patience=45).cause == Cause.POISON
    else:
        second.wait_for("task.had_succeeded")
        assert held.row("SUCCESS")
        assert not DeadLetter.objects.exists()
    assert len(held.starts) == 1


@on_redis
def test_what_may_start_once_waits_until_its_start_can_be_noted(workers, folder):
    worker = workers()
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE deadletters_starts RENAME TO deadletters_away")
        try:
            held = Held(folder, current_app.tasks["tests.hold.once"])
            worker.wait_for("task.start_not_noted")
            worker.wait_for("task.starts_unknown")
            assert not held.starts
        finally:
            cursor.execute("ALTER TABLE deadletters_away RENAME TO deadletters_starts")
    held.release.touch()
    assert held.result.get(timeout=30) == "held"
    assert len(held.starts) == 1


def test_a_worker_that_was_only_stopped_makes_no_second_letter_and_its_late_success_settles_the_first(workers, folder):
    first, second = workers(), workers()
    held = Held(folder, early())
    eventually(lambda: held.starts)
    stopped = first if first.name in held.starts[0] else second
    eventually(lambda: active(stopped), what="it is acknowledged")
    os.killpg(stopped.process.pid, signal.SIGSTOP)
    letter = eventually(lambda: DeadLetter.objects.filter(task_id=held.result.id).first(), patience=45)
    assert letter.state == State.OPEN
    held.release.touch()
    os.killpg(stopped.process.pid, signal.SIGCONT)
    letter = eventually(lambda: DeadLetter.objects.filter(pk=letter.pk, state=State.RESOLVED).first())
    assert [event.kind for event in letter.events.all()] == [Event.Kind.DIED, Event.Kind.SUCCEEDED]
    assert held.row("SUCCESS")
    eventually(lambda: Row.objects.filter(name=stopped.name).exists(), what="the stopped worker's sign of life")
    assert tasks.echo.apply_async([1], queue=folder.name).get(timeout=30) == 1


@on_redis
def test_a_worker_that_dies_in_a_chord_lets_it_be_completed_by_a_replay(workers, folder):
    first = workers()
    log, release = folder / "log", folder / "release"
    result = chord(
        [tasks.echo.si(1).set(queue=folder.name), early().si(str(log), str(release)).set(queue=folder.name)],
        tasks.collect.s().set(queue=folder.name),
    ).apply_async()
    eventually(log.exists)
    eventually(lambda: active(first), what="it is acknowledged")
    kill(first, children=True)
    workers()
    letter = eventually(DeadLetter.objects.first, patience=45)
    assert (letter.cause, letter.task_name) == (Cause.WORKER_LOST, "tests.hold.early")
    eventually(lambda: TaskResult.objects.filter(task_id=result.id, status="FAILURE").exists())
    release.touch()
    replay(letter, by=None)
    assert result.get(timeout=60) == [1, "held"]
    assert DeadLetter.objects.count() == 1


@on_redis
def test_nobody_is_taken_for_dead_when_postgresql_heard_nobody(workers, folder):
    workers(), workers()
    held = Held(folder, early())
    eventually(lambda: held.starts)
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE deadletters_worker RENAME TO deadletters_away")
        try:
            time.sleep(float(SILENCE) * 1.5)
        finally:
            cursor.execute("ALTER TABLE deadletters_away RENAME TO deadletters_worker")
    time.sleep(float(SILENCE) * 1.5)
    assert EarlyStart.objects.count() == 1
    held.release.touch()
    assert eventually(lambda: held.row("SUCCESS"))
    assert not DeadLetter.objects.exists()
    eventually(lambda: not EarlyStart.objects.exists())


@on_redis
def test_a_task_that_outlasts_the_visibility_timeout_is_not_started_twice(workers, folder):
    workers(VISIBILITY_TIMEOUT="3")
    held = Held(folder, tasks.hold)
    later = tasks.echo.apply_async([1], countdown=15, queue=folder.name)
    eventually(lambda: held.starts)
    time.sleep(4)
    workers(VISIBILITY_TIMEOUT="3")  # looks for what is overdue as it starts
    assert tasks.echo.apply_async([1], queue=folder.name).get(timeout=30) == 1
    held.release.touch()
    assert held.result.get(timeout=30) == "held"
    assert later.get(timeout=60) == 1
    assert len(held.starts) == 1


@on_redis
def test_a_message_that_was_taken_while_the_answer_was_lost_runs_soon(workers, folder):
    worker = workers()
    row = eventually(lambda: Row.objects.filter(name=worker.name).first())
    with current_app.connection_for_write() as broker:
        client = broker.default_channel.client
        worker.process.send_signal(signal.SIGSTOP)
        try:
            result = tasks.echo.apply_async([1], queue=folder.name)
            # As Redis notes it, and then is killed before it answers.
            notes = ["unacked", "unacked_index", unacked.OWNERS]
            assert client.eval(transport._TAKE, 4, *notes, folder.name, time.time(), "a tag", str(row.pk))
        finally:
            worker.process.send_signal(signal.SIGCONT)
        assert result.get(timeout=45) == 1
        eventually(lambda: not client.exists(*notes), what="nothing is left of it")


@on_redis
def test_of_four_reapers_at_once_each_letter_and_each_message_comes_from_one(workers, folder):
    # Silent for these four; not for long enough for a worker of other tests, which shares the servers.
    dead = Row.objects.create(
        name="dead@localhost", started_at=timezone.now(), seen_at=timezone.now() - timedelta(seconds=5)
    )
    for number in range(3):
        ledger.open_entry(dead.pk, a_death("early-1", worker=f"child {number}"))
    tasks.echo.apply_async([1], queue=folder.name)
    with current_app.connection_for_read() as broker:
        unacked.own(broker.default_channel, dead.pk)
        with Consumer(broker, [Queue(folder.name)], callbacks=[lambda *_: None]):
            broker.drain_events(timeout=5)
        broker.default_channel.do_restore = False
        answers = at_once([lambda: reap(current_app, timedelta(seconds=1))] * 4)
    said = manage("reap_workers", "--json")
    assert json.loads(said.stdout) == {"workers": [], "letters": 0, "restored": 0}
    assert manage("reap_workers", "--after", "1").returncode == 2
    assert sum(answer.restored for answer in answers) == 1
    assert sum(answer.letters for answer in answers) == 1
    assert DeadLetter.objects.get().task_id == "early-1"
    assert not Row.objects.filter(pk=dead.pk).exists()
    assert not EarlyStart.objects.exists()
    with current_app.connection_for_read() as broker:
        assert broker.default_channel.client.llen(folder.name) == 1


def test_the_failure_that_a_killed_reaper_did_not_tell_is_told_by_the_next():
    dead = Row.objects.create(
        name="dead@localhost", started_at=timezone.now(), seen_at=timezone.now() - timedelta(seconds=5)
    )
    ledger.open_entry(dead.pk, a_death("early-1"))
    capture(a_death("early-1", cause=Cause.WORKER_LOST, exception_type="WorkerLostError"))
    assert reap(current_app, timedelta(seconds=1)).letters == 0
    result = current_app.AsyncResult("early-1")
    assert (result.state, type(result.result)) == ("FAILURE", WorkerLostError)
    assert not EarlyStart.objects.exists()


@pytest.mark.parametrize(
    ("number", "extra"),
    [(signal.SIGQUIT, {}), (signal.SIGTERM, {"REMAP_SIGTERM": "SIGQUIT"})],
    ids=["SIGQUIT", "SIGTERM"],
)
def test_a_cold_shutdown_buries_what_was_acknowledged_and_gives_back_the_rest(workers, folder, number, extra):
    first = workers(**extra)
    (folder / "early").mkdir()
    (folder / "late").mkdir()
    gone, back = Held(folder / "early", early(), folder.name), Held(folder / "late", tasks.hold, folder.name)
    # Their processes begin before the main process has heard of it, and what it has not heard of it does not end.
    eventually(lambda: len(active(first)) == 2 and gone.starts and back.starts)
    first.process.send_signal(number)
    first.process.wait(30)
    letter = eventually(lambda: DeadLetter.objects.filter(task_id=gone.result.id).first())
    assert letter.cause == Cause.CANCELLED_BY_SHUTDOWN
    workers()
    eventually(lambda: len(back.starts) == 2)
    back.release.touch()
    assert back.result.get(timeout=30) == "held"
    assert DeadLetter.objects.count() == 1
    assert len(gone.starts) == 1


@on_redis
def test_a_cold_shutdown_that_interrupts_a_write_ends_all_the_same(workers, folder):
    first = workers()
    (folder / "gone").mkdir()
    (folder / "last").mkdir()
    gone = Held(folder / "gone", early(), folder.name)
    eventually(lambda: len(active(first)) == 1)
    with connection.cursor() as cursor, transaction.atomic():
        cursor.execute("LOCK TABLE deadletters_earlystart IN ACCESS EXCLUSIVE MODE")
        last = Held(folder / "last", early(), folder.name)
        eventually(lambda: waits_for_a_lock("INSERT INTO deadletters_earlystart"), what="a start is being noted")
        first.process.send_signal(signal.SIGQUIT)
        # Until then the table stays locked: by the connection that waits it cannot be told.
        first.wait_for("dead_letter.captured")
    last.release.touch()  # Celery ends what it knows to be running, and waits for the rest
    first.process.wait(45)
    assert DeadLetter.objects.get().task_id == gone.result.id


def active(worker):
    """What the worker's main process knows to be running: what is early-acknowledged is not delivered again from now on."""
    return (current_app.control.inspect([worker.name], timeout=5).active() or {}).get(worker.name, [])


def test_a_message_that_kills_every_worker_stops_and_is_one_letter(workers, folder):
    log = folder / "log"
    result = tasks.kill_worker.apply_async([str(log)], queue=folder.name)
    for number in (1, 2):
        worker = workers()
        eventually(lambda number=number: log.exists() and log.read_text() == "started\n" * number, patience=45)
        eventually(lambda worker=worker: not worker.alive)
    last = workers()
    letter = eventually(lambda: DeadLetter.objects.filter(task_id=result.id).first(), patience=45)
    assert (letter.cause, letter.deaths) == (Cause.POISON, 1)
    assert log.read_text() == "started\n" * 2
    assert eventually(lambda: TaskResult.objects.filter(task_id=result.id, status="FAILURE").exists())
    assert tasks.echo.apply_async([1], queue=folder.name).get(timeout=30) == 1
    assert last.alive
    assert not Starts.objects.exists()
