"""What a letter holds, through a real worker: the whole message, or the bytes that are none. Each way of dying: test_deaths_matrix."""

import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
from celery import current_app
from django.db import connection
from django_celery_results.models import TaskResult

from deadletters.envelope import Envelope
from deadletters.models import Cause, DeadLetter, Event, State
from deadletters.replay.replay import NotReplayable, replay
from deadletters.replay.workflow import sets_free
from tests import tasks
from tests.processes import Worker, eventually

pytestmark = [pytest.mark.worker, pytest.mark.django_db(transaction=True)]


def letter_of(result):
    """The letter, once it is there; and nothing makes a second one afterwards."""
    letter = eventually(lambda: DeadLetter.objects.filter(task_id=result.id).first(), what="a dead letter")
    eventually(
        lambda: TaskResult.objects.filter(task_id=result.id, status__in=("FAILURE", "REVOKED")).exists(),
        what="the FAILURE row",
    )
    time.sleep(0.3)
    letter.refresh_from_db()
    assert Event.objects.filter(dead_letter=letter, kind=Event.Kind.DIED).count() == letter.deaths == 1
    assert letter.state == State.OPEN
    return letter


def test_an_unregistered_task_is_kept(worker):
    result = current_app.send_task("tests.nobody_knows", args=[1, 2**70], kwargs={"when": "now"}, priority=3)
    letter = letter_of(result)
    assert letter.cause == Cause.UNKNOWN_TASK
    assert letter.task_name == "tests.nobody_knows"
    arguments = Envelope.of(letter).arguments()
    assert (arguments.args, arguments.kwargs) == ([1, 2**70], {"when": "now"})
    assert letter.priority == 3


def test_an_expired_task_is_kept(worker):
    result = tasks.echo.apply_async(["late"], expires=datetime.now(UTC) - timedelta(seconds=5))
    letter = letter_of(result)
    assert letter.cause == Cause.EXPIRED
    assert letter.started_at is None


def test_a_success_leaves_no_letter(worker):
    assert tasks.echo.delay(1).get(timeout=30) == 1
    assert not DeadLetter.objects.exists()


def test_an_argument_with_half_a_surrogate_pair_runs(worker):
    assert tasks.echo.delay("half a pair \udcff").get(timeout=30) == "half a pair \udcff"
    assert not DeadLetter.objects.exists()


def test_a_body_that_is_not_json_is_kept_with_its_bytes(worker):
    body = b"\x80\x04this is a pickle"
    with current_app.producer_or_acquire() as producer:
        producer.publish(
            body, routing_key="default", exchange="", content_type="application/x-python-serialize", content_encoding="binary",
            headers={"task": "tests.echo", "id": "11111111-aaaa-4bbb-8ccc-222222222222", "lang": "py", "root_id": None},
        )  # fmt: skip
    letter = eventually(DeadLetter.objects.first)
    assert letter.cause in {Cause.UNDECODABLE, Cause.INVALID}
    assert bytes(letter.body) == body
    assert worker.alive


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b'[["\xff\xfe"], {}, {}]', {}),
        (b"not compressed", {"compression": "application/x-gzip"}),
        (b"[[1], {}, {}]", {"compression": "application/x-nobody-knows"}),
    ],
    ids=["not UTF-8", "corrupt compression", "unknown compression"],
)
def test_a_body_that_cannot_be_read_is_kept_with_its_bytes_and_the_worker_goes_on(worker, body, headers):
    about = {"task": "tests.echo", "id": "11111111-aaaa-4bbb-8ccc-222222222222", "lang": "py", "root_id": None}
    with current_app.connection_for_write() as connected, connected.channel() as channel:
        # Past kombu's Producer, which would compress it.
        message = channel.prepare_message(
            body, content_type="application/json", content_encoding="utf-8", headers={**about, **headers},
            properties={"delivery_mode": 2},
        )  # fmt: skip
        channel.basic_publish(message, exchange="", routing_key="default")
    letter = eventually(DeadLetter.objects.first)
    assert bytes(letter.body) == body
    assert tasks.echo.delay(1).get(timeout=30) == 1
    assert DeadLetter.objects.count() == 1
    assert worker.alive


def test_what_dies_eagerly_leaves_no_letter():
    with pytest.raises(ValueError, match="no luck"):
        tasks.die.apply(throw=True)
    assert tasks.die.apply().failed()
    assert not DeadLetter.objects.exists()


@pytest.mark.parametrize("body", [b"5", b"null", b"{}", b"[1, 2]", b'"x"', b"[[], {}, {}"])
def test_a_body_that_is_no_task_is_kept_and_the_worker_goes_on(worker, body):
    with current_app.producer_or_acquire() as producer:
        producer.publish(
            body, routing_key="default", exchange="", content_type="application/json", content_encoding="utf-8",
            headers={"task": "tests.echo", "id": "11111111-aaaa-4bbb-8ccc-222222222222", "lang": "py", "root_id": None},
        )  # fmt: skip
    letter = eventually(DeadLetter.objects.first)
    assert bytes(letter.body) == body
    assert sets_free(letter).names == []
    assert tasks.echo.delay(1).get(timeout=30) == 1


def test_a_message_without_an_id_cannot_be_replayed(worker):
    with current_app.producer_or_acquire() as producer:
        producer.publish({"hello": "world"}, routing_key="default", exchange="", serializer="json")
    letter = eventually(DeadLetter.objects.first)
    assert letter.cause == Cause.UNKNOWN_MESSAGE
    with pytest.raises(NotReplayable, match="no task message"):
        replay(letter, by=None)


def test_a_death_that_neither_postgresql_nor_the_spool_takes_stays_in_the_queue(tmp_path):
    worker = Worker(tmp_path, queue="refused", concurrency=1, DEADLETTERS_SPOOL="/dev/null/spool")
    try:
        with no_table_of_letters():
            result = tasks.die.apply_async(queue="refused")
            current_app.send_task("tests.nobody_knows", queue="refused")
            worker.wait_for("dead_letter.not_stored")
            assert worker.alive
        eventually(lambda: DeadLetter.objects.count() == 2, what="both letters")
        assert DeadLetter.objects.get(task_id=result.id).deaths == 1
        assert tasks.echo.apply_async([1], queue="refused").get(timeout=30) == 1
    finally:
        worker.stop()


def test_a_death_that_no_letter_can_be_made_of_is_told_and_its_message_kept(tmp_path):
    worker = Worker(tmp_path, queue="misruled", concurrency=1)
    try:
        current_app.tasks["tests.misruled.early"].apply_async(queue="misruled")
        worker.wait_for("dead_letter.lost")
        late = tasks.misruled.apply_async(queue="misruled")
        eventually(
            lambda: worker.output.count(f"tests.misruled[{late.id}] received") > 1, what="it is back in its queue"
        )
        assert "dead_letter.not_stored" in worker.output
        assert worker.alive
    finally:
        worker.stop()
        with current_app.connection_for_write() as connected:
            connected.default_channel.queue_purge("misruled")


@contextmanager
def no_table_of_letters():
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE deadletters_deadletter RENAME TO deadletters_away")
        try:
            yield
        finally:
            cursor.execute("ALTER TABLE deadletters_away RENAME TO deadletters_deadletter")


def test_the_envelope_is_the_whole_message(worker):
    signature = tasks.die.s("first", region="APAC").set(
        priority=4,
        headers={"tenant": "t-1"},
        link_error=tasks.echo.si("errback"),
        shadow="nickname",
        soft_time_limit=20,
        time_limit=30,
    )
    result = (signature | tasks.echo.s() | tasks.collect.s()).apply_async()
    letter = letter_of(result.parent.parent)
    envelope = Envelope.of(letter)
    arguments = envelope.arguments()
    assert (arguments.args, arguments.kwargs) == (["first"], {"region": "APAC"})
    assert [step["task"] for step in reversed(arguments.embed["chain"])] == ["tests.echo", "tests.collect"]
    assert arguments.embed["errbacks"][0]["task"] == "tests.echo"
    assert envelope.headers["tenant"] == "t-1"
    assert envelope.headers["timelimit"] == [30, 20]
    assert envelope.properties["priority"] == 4
    assert envelope.content_type == "application/json"
    assert "no luck" not in letter.traceback
    assert "ValueError: first" in letter.traceback
