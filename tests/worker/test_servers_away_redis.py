"""Redis is stopped under a busy worker and started again: the worker goes on, and no task is lost."""

import base64
import collections
import json
import time
import uuid

import pytest
import redis
from celery import chain
from django.utils import timezone
from django_celery_results.models import TaskResult

from config.embedded import Redis, free_port, new_password
from deadletters.models import Cause, DeadLetter
from pipelines.models import Run, Step
from tests import tasks
from tests.processes import Worker, eventually
from tests.rabbitmq import publishing_to

pytestmark = [pytest.mark.worker, pytest.mark.django_db(transaction=True)]


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    server = Redis(tmp_path_factory.mktemp("broker") / "redis", port=free_port(), password=new_password())
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def on_broker(broker):
    with publishing_to(broker.url):
        yield


@pytest.fixture(scope="module")
def busy_worker(django_db_setup, broker, on_broker, tmp_path_factory):
    worker = Worker(tmp_path_factory.mktemp("worker"), BROKER_URL=broker.url)
    yield worker
    worker.stop()


def runs(log):
    """How often each label was noted."""
    lines = log.read_text().splitlines() if log.exists() else []
    return collections.Counter(json.loads(line)[1] for line in lines)


def unsettled(broker):
    with redis.Redis.from_url(broker.url) as client:
        return client.hlen("unacked") + client.zcard("unacked_index") + client.llen("default")


def test_a_worker_that_has_its_redis_back_knows_what_was_cancelled_meanwhile(busy_worker, broker):
    """A cancellation is told to those who listen just now."""
    step = str(uuid.uuid4())
    tree = {"kind": "task", "task_id": step, "task": "tests.echo", "label": "tests.echo"}
    before = busy_worker.output.count("Connected to")
    broker.stop()
    busy_worker.wait_for("Connection to broker lost")
    run = Run.objects.create(pipeline="test", tree=tree, result_id=step, cancelled_at=timezone.now())
    Step.objects.create(run=run, position=0, task_id=step, task_name="tests.echo")
    broker.start()
    eventually(lambda: busy_worker.output.count("Connected to") > before)
    tasks.add.delay(1, 2).get(timeout=60)  # it works again
    tasks.echo.apply_async([1], task_id=step)
    assert (
        eventually(lambda: TaskResult.objects.filter(task_id=step).exclude(status="PENDING").first()).status
        == "REVOKED"
    )


@pytest.mark.parametrize("kill", [False, True], ids=["stopped", "killed"])
def test_a_worker_outlives_its_redis(busy_worker, broker, tmp_path, kill):
    log = tmp_path / "log"
    running = [tasks.sleep.delay(4) for _ in range(2)]  # both processes are busy, with acknowledgements to come
    waiting = [tasks.note.delay(label=number, log=str(log)).id for number in range(6)]
    dead = tasks.die.delay("after the break").id
    later = tasks.note.apply_async(kwargs={"label": "later", "log": str(log)}, countdown=5).id
    eventually(lambda: all(f"tests.sleep[{result.id}] received" in busy_worker.output for result in running))
    broker.stop(kill=kill)
    busy_worker.wait_for("Connection to broker lost")
    broker.start()
    for result in running:
        eventually(lambda result=result: result.state == "SUCCESS", what="what ran is finished")
    eventually(lambda: len(runs(log)) == 7, what="what waited has run")
    eventually(lambda: DeadLetter.objects.filter(task_id=dead).exists())
    eventually(lambda: unsettled(broker) == 0, what="every message is settled")
    assert busy_worker.alive
    assert not DeadLetter.objects.exclude(task_id=dead).exists()
    assert {*waiting, later} <= set(TaskResult.objects.filter(status="SUCCESS").values_list("task_id", flat=True))


def test_what_cannot_be_sent_while_redis_is_away_is_a_letter_or_goes_on(busy_worker, broker):
    chained = chain(tasks.sleep.s(2), tasks.echo.s(), tasks.echo.s()).apply_async()
    first = chained.parent.parent
    retried = tasks.retry_slowly.delay()
    eventually(
        lambda: f"[{first.id}] received" in busy_worker.output and f"[{retried.id}] received" in busy_worker.output
    )
    broker.stop()
    time.sleep(6)  # two of work, and all the tries to send
    broker.start()
    letter = eventually(lambda: DeadLetter.objects.filter(task_id=retried.id).first(), what="a letter of the retry")
    assert letter.cause == Cause.PUBLISH_FAILED
    eventually(lambda: retried.state == "FAILURE")
    # The chain's next step was tried for long enough; had it not been, its first step would be a letter.
    assert chained.get(timeout=60) == 2
    assert not DeadLetter.objects.exclude(pk=letter.pk).exists()
    eventually(lambda: unsettled(broker) == 0)


@pytest.mark.parametrize(
    "raw",
    [
        b"\xff\xfe\x00 not even text",
        b"hello",
        b"5",
        b"{}",
        b'{"properties": {"delivery_tag": 5}}',
        b'{"properties": {"delivery_tag": "t", "deep": ' + b"[" * 2_000 + b"]" * 2_000 + b"}}",
        b'{"body": "!!!", "headers": {}, "properties": {"body_encoding": "base64", "delivery_tag": "t", "delivery_info": {"exchange": "", "routing_key": "default"}}}',
        b'{"body": "W10=", "headers": {}, "properties": {"body_encoding": "rot13", "delivery_tag": "t", "delivery_info": {"exchange": "", "routing_key": "default"}}}',
    ],
)
def test_bytes_that_are_no_message_are_kept_and_the_queue_moves_on(busy_worker, broker, raw):
    with redis.Redis.from_url(broker.url) as client:
        client.lpush("default", raw)
    letter = eventually(DeadLetter.objects.first)
    assert bytes(letter.body) == raw
    assert (letter.cause, letter.queue) == (Cause.UNKNOWN_MESSAGE, "default")
    assert tasks.echo.delay(1).get(timeout=30) == 1
    eventually(lambda: unsettled(broker) == 0)
    assert DeadLetter.objects.count() == 1


def message(**headers):
    """A task message as kombu writes it, with some headers changed; None takes one away."""
    whole = {
        "lang": "py", "task": "tests.echo", "id": str(uuid.uuid4()), "retries": 0, "eta": None, "expires": None, "timelimit": [None, None],
        "root_id": None, "parent_id": None, "group": None,
    }  # fmt: skip
    whole.update(headers)
    return {
        "body": base64.b64encode(b'[[1], {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]').decode(),
        "content-type": "application/json", "content-encoding": "utf-8",
        "headers": {name: value for name, value in whole.items() if value is not ...},
        "properties": {
            "body_encoding": "base64", "delivery_tag": str(uuid.uuid4()), "delivery_info": {"exchange": "", "routing_key": "default"},
            "priority": 0, "correlation_id": "c", "reply_to": "", "delivery_mode": 2,
        },
    }  # fmt: skip


def nested(levels):
    return json.loads("[" * levels + "]" * levels)


@pytest.mark.parametrize(
    "raw",
    [
        message(id=...),
        message(id=5),
        message(task=["tests.echo"]),
        message(timelimit="soon"),
        message(timelimit=[10**400, None]),
        message(timelimit=[float("nan"), None]),
        message(deep=nested(700)),
        message(task=..., deep=nested(700)),
        {**message(), "properties": {**message()["properties"], "deep": nested(700)}},
        message(eta="9999-12-31T00:00:00+00:00"),
        message(eta="0001-01-01T00:00:00+14:00"),
        message(eta="whenever"),
        message(expires="never"),
        {**message(), "headers": ["a", "list"]},
        {**message(), "headers": "text"},
        {**message(), "headers": None},
        {**message(), "content-type": 5},
        {**message(), "content-encoding": 5},
        {**message(), "content-encoding": {"an": "object"}},
    ],
)
def test_a_message_that_makes_no_sense_is_kept_and_the_queue_moves_on(busy_worker, broker, raw):
    with redis.Redis.from_url(broker.url) as client:
        client.lpush("default", json.dumps(raw))
    letter = eventually(DeadLetter.objects.first, 20)
    kept = bytes(letter.body)
    assert kept == base64.b64decode(raw["body"]) or json.loads(kept) == raw
    assert tasks.echo.delay(1).get(timeout=30) == 1
    eventually(lambda: unsettled(broker) == 0)
    assert DeadLetter.objects.count() == 1
    assert busy_worker.alive


@pytest.mark.parametrize("encoding", ["no-such-codec", "utf-8\0"])
def test_json_is_read_whatever_encoding_its_message_names(busy_worker, broker, encoding):
    raw = {**message(), "content-encoding": encoding}
    with redis.Redis.from_url(broker.url) as client:
        client.lpush("default", json.dumps(raw))
    ran = TaskResult.objects.filter(task_id=raw["headers"]["id"], status="SUCCESS")
    eventually(ran.exists, what="it has run: kombu does not ask for JSON's encoding")
    eventually(lambda: unsettled(broker) == 0)
    assert not DeadLetter.objects.exists()


@pytest.mark.parametrize("task", ["tests.die_unless", "tests.vanish"])
def test_a_redelivered_copy_that_dies_after_the_first_one_succeeded_is_no_letter(busy_worker, broker, tmp_path, task):
    there = tmp_path / "there"
    there.touch()
    raw, task_id = message(task=task), str(uuid.uuid4())
    raw["headers"]["id"] = task_id
    raw["body"] = base64.b64encode(json.dumps([[str(there)], {}, {}]).encode()).decode()
    succeeded = TaskResult.objects.filter(task_id=task_id, status="SUCCESS")
    with redis.Redis.from_url(broker.url) as client:
        client.lpush("default", json.dumps(raw))
        eventually(succeeded.exists)
        eventually(lambda: unsettled(broker) == 0)
        there.unlink()
        raw["properties"]["delivery_info"]["redelivered"] = True
        client.lpush("default", json.dumps(raw))
    eventually(lambda: busy_worker.output.count(f"{task}[{task_id}] received") == 2)
    eventually(lambda: unsettled(broker) == 0)
    dead = tasks.die.delay().id
    eventually(DeadLetter.objects.filter(task_id=dead).exists)
    assert DeadLetter.objects.count() == 1
    assert succeeded.exists()
