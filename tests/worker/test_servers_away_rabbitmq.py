"""RabbitMQ is stopped under a busy worker and started again: the worker goes on, and no task is lost."""

import collections
import json
import tempfile
from datetime import timedelta
from pathlib import Path

import pytest
from celery import chord, current_app
from django_celery_results.models import TaskResult
from kombu import Connection, Queue

from deadletters.envelope import Envelope
from deadletters.models import Cause, DeadLetter, State
from deadletters.replay.sweep import sweep
from tests import tasks
from tests.processes import Worker, eventually
from tests.rabbitmq import RabbitMQ, publishing_to

pytestmark = [pytest.mark.worker, pytest.mark.rabbitmq, pytest.mark.django_db(transaction=True)]


@pytest.fixture(scope="module")
def broker(rabbitmq_url):
    # `rabbitmq_url` skips where RabbitMQ is not installed; this one is stopped, so it is not shared.
    with tempfile.TemporaryDirectory(prefix="redeliver-rabbitmq-", ignore_cleanup_errors=True) as folder:
        server = RabbitMQ(Path(folder))
        try:
            server.start()
            yield server
        finally:
            server.stop()


@pytest.fixture(scope="module")
def busy_worker(django_db_setup, broker, tmp_path_factory):
    with publishing_to(broker.url, confirm_publish=True):
        worker = Worker(tmp_path_factory.mktemp("worker"), BROKER_URL=broker.url)
        yield worker
        worker.stop()


def labels(log):
    lines = log.read_text().splitlines() if log.exists() else []
    return collections.Counter(json.loads(line)[1] for line in lines)


def test_a_worker_outlives_its_rabbitmq(busy_worker, broker, tmp_path):
    log = tmp_path / "log"
    running = [tasks.sleep.delay(3) for _ in range(2)]
    waiting = [tasks.note.delay(label=number, log=str(log)).id for number in range(4)]
    dead = tasks.die.delay("after the break").id
    retried = tasks.retry_slowly.delay().id
    eventually(lambda: all(f"tests.sleep[{result.id}] received" in busy_worker.output for result in running))
    broker.stop()
    busy_worker.wait_for("Connection to broker lost")
    broker.start()
    for result in running:
        eventually(lambda result=result: result.state == "SUCCESS", what="what ran is finished")
    eventually(lambda: set(labels(log)) == {0, 1, 2, 3}, what="what waited has run")
    eventually(lambda: DeadLetter.objects.count() == 2, what="the letters of what died")
    assert {letter.task_id: letter.cause for letter in DeadLetter.objects.all()} == {
        dead: Cause.EXCEPTION, retried: Cause.RETRIES_EXHAUSTED,
    }  # fmt: skip
    assert set(waiting) <= set(TaskResult.objects.filter(status="SUCCESS").values_list("task_id", flat=True))
    assert busy_worker.alive


@pytest.mark.parametrize(
    ("arguments", "cause"),
    [
        ({"x-message-ttl": 50}, Cause.EXPIRED),
        ({"x-max-length": 0}, Cause.REJECTED),
        ({"x-queue-type": "quorum", "x-delivery-limit": 1}, Cause.POISON),
    ],
    ids=["time-to-live", "full-queue", "delivery-limit"],
)
def test_what_rabbitmq_gives_up_is_a_letter(busy_worker, broker, arguments, cause):
    name = f"nobody-{cause}"
    to_us = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead_letters"}
    with Connection(broker.url) as connection:
        channel = connection.default_channel
        channel.queue_declare(name, durable=True, auto_delete=False, arguments={**arguments, **to_us})
        # Straight into the queue: declaring it as Celery would, without its arguments, is refused.
        task = tasks.echo.s(1).set(
            queue=Queue(name, no_declare=True), exchange="", routing_key=name, headers={"tenant": "t-1"}
        )
        result = task.apply_async(connection=connection)
        for _ in range(2 if cause == Cause.POISON else 0):
            # A quorum queue takes a moment to have it ready.
            message = eventually(lambda: channel.basic_get(name), what="it is delivered")
            channel.basic_reject(message.delivery_tag, requeue=True)
    letter = eventually(
        lambda: DeadLetter.objects.filter(task_id=result.id).first(), 30, "a letter of what was given up"
    )
    envelope = Envelope.of(letter)
    assert (letter.cause, letter.queue, letter.task_name) == (cause, name, "tests.echo")
    assert envelope.arguments().args == [1]
    assert envelope.headers["tenant"] == "t-1"
    assert "x-death" not in envelope.headers
    assert DeadLetter.objects.count() == 1


def test_what_cannot_be_sent_while_rabbitmq_is_away_is_a_letter_or_goes_on(busy_worker, broker, tmp_path):
    log, queue = tmp_path / "log", "unsent"
    worker = Worker(tmp_path, queue=queue, concurrency=4, BROKER_URL=broker.url)
    try:
        slow, said = tasks.sleep.si(4).set(queue=queue), tasks.note.s(log=str(log)).set(queue=queue)
        linked = slow.clone().apply_async(link=said.clone(kwargs={"label": "linked"}))
        body = chord([slow.clone(), slow.clone()])(said.clone(kwargs={"label": "body"}))
        retried = tasks.once_more.apply_async([3], queue=queue)
        # What the main process does not know to be running when the connection is lost is simply delivered again.
        eventually(lambda: len(active(worker)) == 4)
        broker.stop()
        worker.wait_for("Retrying refused callback publish for 'tests.note'")
        broker.start()
        letter = eventually(lambda: DeadLetter.objects.filter(task_id=retried.id).first(), what="a letter of the retry")
        assert letter.cause == Cause.PUBLISH_FAILED
        eventually(lambda: {"linked", "body"} <= set(labels(log)), what="callback and chord body have run")
        # RabbitMQ delivers again what could not be acknowledged, and that copy's retry is sent: nothing is left to replay.
        succeeded = TaskResult.objects.filter(task_id__in=[linked.id, body.id, retried.id], status="SUCCESS")
        eventually(lambda: succeeded.count() == 3)
        sweep(timedelta(0))
        assert labels(log)["body"] == 1
        assert [(one.pk, one.state, one.deaths) for one in DeadLetter.objects.all()] == [(letter.pk, State.RESOLVED, 1)]
    finally:
        worker.stop()


def active(worker):
    """What the worker's main process knows to be running."""
    return (current_app.control.inspect([worker.name], timeout=5).active() or {}).get(worker.name, [])
