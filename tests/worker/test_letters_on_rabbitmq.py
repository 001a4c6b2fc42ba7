"""Replays once more, on RabbitMQ: its acknowledgements, headers and priorities are not Redis'."""

from datetime import UTC, datetime, timedelta

import pytest
from celery import chord
from django_celery_results.models import TaskResult

from deadletters.models import DeadLetter, State
from deadletters.replay.replay import replay
from tests import tasks
from tests.processes import Worker, eventually

pytestmark = [pytest.mark.worker, pytest.mark.rabbitmq, pytest.mark.django_db(transaction=True)]


@pytest.fixture(scope="module")
def rabbit_worker(django_db_setup, rabbitmq_url, tmp_path_factory):
    process = Worker(tmp_path_factory.mktemp("worker"), BROKER_URL=rabbitmq_url)
    yield process
    process.stop()


def test_a_replayed_chord_member_completes_its_chord(rabbit_worker, on_rabbitmq, tmp_path):
    missing, runs = tmp_path / "missing", tmp_path / "runs"
    result = chord([tasks.echo.si(1), tasks.die_unless.si(str(missing), 2)])(tasks.count_run.s(path=str(runs)))
    letter = eventually(lambda: DeadLetter.objects.open().first())
    eventually(lambda: TaskResult.objects.filter(task_id=result.id, status="FAILURE").exists())
    missing.touch()
    replay(letter, by=None)
    eventually(lambda: TaskResult.objects.filter(task_id=result.id, status="SUCCESS").exists())
    assert runs.read_text() == "[1, 2]\n"
    eventually(lambda: DeadLetter.objects.filter(pk=letter.pk, state=State.RESOLVED).exists())


def test_an_expired_message_runs_when_it_is_replayed(rabbit_worker, on_rabbitmq):
    result = tasks.echo.apply_async(["late"], expires=datetime.now(UTC) - timedelta(seconds=5))
    replay(eventually(lambda: DeadLetter.objects.filter(task_id=result.id).first()), by=None)
    assert eventually(lambda: TaskResult.objects.filter(task_id=result.id, status="SUCCESS").first()).result == '"late"'
