"""A worker that is killed as a whole: what it held runs again, what it had acknowledged is a letter, and nothing twice."""

import os
import signal

import pytest
from celery import current_app
from django_celery_results.models import TaskResult

from deadletters.models import Cause, DeadLetter, Event, State
from deadletters.workers import EarlyStart
from deadletters.workers import Worker as Row
from tests import tasks
from tests.processes import Worker, eventually
from tests.rabbitmq import publishing_to

pytestmark = [pytest.mark.worker, pytest.mark.django_db(transaction=True)]

# Short enough to wait for, long enough for a machine that stalls.
SILENCE = "6"


@pytest.fixture(params=["redis", pytest.param("rabbitmq", marks=pytest.mark.rabbitmq)])
def broker(request):
    if request.param == "redis":
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
        worker.process.send_signal(signal.SIGCONT) if worker.alive else None
        worker.stop(signal.SIGKILL)


class Held:
    """A task that runs until it is released."""

    def __init__(self, folder, task):
        self.log, self.release = folder / "log", folder / "release"
        self.result = task.apply_async([str(self.log), str(self.release)], queue=folder.name)

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
    kill(victim, children=children)
    letter = eventually(lambda: DeadLetter.objects.filter(task_id=held.result.id).first(), patience=45)
    assert (letter.cause, letter.worker, letter.state) == (Cause.WORKER_LOST, victim.name, State.OPEN)
    assert letter.started_at
    assert eventually(lambda: held.row("FAILURE"))
    assert letter.deaths == letter.events.filter(kind=Event.Kind.DIED).count() == 1
    eventually(lambda: not Row.objects.filter(name=victim.name).exists())
    assert not EarlyStart.objects.exists()
    assert len(held.starts) == 1
