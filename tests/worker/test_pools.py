"""Each of Celery's pools, not only processes: each death is a letter, and a replay finishes the chord."""

import pytest
from celery import chord, current_app
from django.db import connection

from deadletters.models import Cause, DeadLetter
from deadletters.replay.replay import replay
from tests import tasks
from tests.processes import Worker, eventually

pytestmark = [pytest.mark.worker, pytest.mark.django_db(transaction=True)]

CAUSES = {
    "die": Cause.EXCEPTION,
    "die.early": Cause.EXCEPTION,
    "retry_with": Cause.EXCEPTION,
    "reject": Cause.REJECTED,
    "unencodable": Cause.RESULT_ENCODE,
    "run_out_of_memory": Cause.MEMORY_ERROR,
    # There is no process that ends: the task is over, as in a process of its own.
    "sys_exit": Cause.WORKER_LOST,
    "sys_exit.early": Cause.WORKER_LOST,
}


@pytest.fixture(params=["solo", "threads", "gevent"])
def worker(request, folder):
    process = Worker(folder, "--pool", request.param, "--prefetch-multiplier", "8", queue=folder.name, concurrency=20)
    yield process
    assert process.stop() == 0
    assert "AttributeError" not in process.output


def test_each_death_is_a_letter_whose_replay_goes_on(worker, folder):
    dead = {name: current_app.tasks[f"tests.{name}"].apply_async(queue=folder.name) for name in CAUSES}
    there = folder / "there"
    members = [tasks.die_unless.s(str(there), n).set(queue=folder.name) for n in range(2)]
    waits = chord(members, tasks.collect.s().set(queue=folder.name)).apply_async()
    assert tasks.echo.apply_async([1], queue=folder.name).get(timeout=30) == 1
    eventually(lambda: DeadLetter.objects.count() == len(CAUSES) + 2)
    causes = {name: DeadLetter.objects.get(task_id=result.id).cause for name, result in dead.items()}
    assert causes == CAUSES
    eventually(lambda: {result.state for result in dead.values()} == {"FAILURE"})
    there.touch()
    for letter in DeadLetter.objects.filter(task_name="tests.die_unless"):
        replay(letter, by=None)
    assert waits.get(timeout=30) == [0, 1]


@pytest.mark.parametrize("worker", ["gevent"], indirect=True)
def test_a_greenlet_leaves_no_connection_behind(worker, folder):
    for result in [tasks.echo.apply_async([n], queue=folder.name) for n in range(200)]:
        result.get(timeout=30)
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
        assert cursor.fetchone()[0] < 20
