"""Replays once more, on RabbitMQ: its acknowledgements, headers and priorities are not Redis'."""

import struct
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from celery import chord, current_app
from django_celery_results.models import TaskResult

from deadletters.envelope import Envelope
from deadletters.models import Cause, DeadLetter, State
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


@pytest.mark.parametrize("encoding", ["no-such-codec", "utf-8\0"])
def test_json_is_read_whatever_encoding_its_message_names(rabbit_worker, on_rabbitmq, encoding):
    fine, dead = str(uuid.uuid4()), str(uuid.uuid4())
    with current_app.producer_or_acquire() as producer:
        for task_id, task in ((dead, "tests.die"), (fine, "tests.echo")):
            producer.publish(
                b'[["text"], {}, {}]', routing_key="default", exchange="", content_type="application/json", content_encoding=encoding,
                headers={"task": task, "id": task_id, "lang": "py", "root_id": None},
            )  # fmt: skip
    eventually(TaskResult.objects.filter(task_id=fine, status="SUCCESS").exists)
    letter = eventually(DeadLetter.objects.first)
    assert (letter.task_id, letter.cause) == (dead, Cause.EXCEPTION)
    assert Envelope.of(letter).arguments().args == ["text"]
    assert DeadLetter.objects.count() == 1


def short(text):
    return bytes([len(text)]) + text


def table(name, kind, value):
    item = short(name) + kind + value
    return struct.pack(">I", len(item)) + item


def nested(levels):
    array = b""
    for _level in range(levels):
        array = b"A" + struct.pack(">I", len(array)) + array
    return array


@pytest.mark.parametrize(
    "properties",
    [
        struct.pack(">H", 0x4000) + short(b"latin-\xe9"),
        struct.pack(">H", 0x2000 | 0x0400) + table(b"task", b"S", struct.pack(">I", 4) + b"echo") + short(b"\xff"),
        struct.pack(">H", 0x2000) + table(b"at", b"T", struct.pack(">Q", 2**62)),
        struct.pack(">H", 0x2000) + table(b"deep", b"", nested(2_000)),
    ],
    ids=["encoding", "correlation id", "a time after the year 9999", "nested too deeply"],
)
def test_properties_that_cannot_be_read_are_kept_and_the_queue_moves_on(rabbit_worker, on_rabbitmq, properties):
    with current_app.connection_for_write() as connected, connected.channel() as channel:
        message = channel.prepare_message(b"[[1], {}, {}]")
        message._serialize_properties = lambda: properties
        channel.basic_publish(message, exchange="", routing_key="default")
    letter = eventually(DeadLetter.objects.first)
    assert (letter.cause, bytes(letter.body)) == (Cause.UNKNOWN_MESSAGE, b"[[1], {}, {}]")
    assert bytes.fromhex(Envelope.of(letter).headers["unreadable_properties"]).startswith(properties)
    assert tasks.echo.delay(1).get(timeout=30) == 1
    assert DeadLetter.objects.count() == 1
    assert rabbit_worker.alive
