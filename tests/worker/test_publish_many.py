"""What a redrive puts on the wire is what a single replay would have sent, on Redis and on RabbitMQ."""

import json
import threading

import pytest
from celery import current_app
from django.db import connection

from deadletters.envelope import COPY_HEADER
from deadletters.models import DeadLetter, Redrive, RedriveItem, State
from deadletters.redrive import drive, redrive
from deadletters.replay import publish_amqp
from deadletters.replay.claim import message
from deadletters.replay.cluster import inspection
from deadletters.replay.publish import Publisher, Ready, Unsent
from deadletters.replay.replay import NotSent, replay
from deadletters.selection import Selection
from tests.deadletters.letters import letter
from tests.processes import eventually

pytestmark = [pytest.mark.worker, pytest.mark.django_db(transaction=True)]

QUEUE = "publish-many"
ALONE = b'[["\xe6\x97\xa5\xe6\x9c\xac", 12345678901234567890123], {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]'
STEP = b'[[1], {}, {"chain": [{"task": "tests.add", "args": [], "kwargs": {}, "options": {"task_id": "next"}}], "chord": null}]'


@pytest.fixture(autouse=True)
def asked_anew():
    inspection.forget()
    yield
    inspection.forget()


@pytest.fixture
def queue():
    """An empty queue that nobody consumes."""
    with current_app.connection_for_write() as broker:
        channel = broker.default_channel
        channel.queue_declare(QUEUE, durable=True, auto_delete=False)
        channel.queue_purge(QUEUE)
        yield lambda: _taken(channel)
        channel.queue_delete(QUEUE)


def _taken(channel):
    """The messages, in the order in which a worker would get them."""
    found = []
    while (one := channel.basic_get(QUEUE, no_ack=True)) is not None:
        made = channel.message_to_python(one) if hasattr(channel, "message_to_python") else one
        found.append(made)
    return found


def letters():
    when = {
        "eta": "2026-01-01T00:00:00+00:00",
        "expires": None,
        "retries": 3,
        "deep": {"ratio": 0.1, "big": 2**62, "none": None},
    }
    made = []
    for number in range(5):
        one = letter(number, task_name="tests.anything", queue=QUEUE, body=STEP if number == 2 else ALONE)
        one.headers = {**one.headers, **when, "task": "tests.anything"}
        one.properties = {"correlation_id": one.task_id, "delivery_mode": 2, "priority": 0, "expiration": "1000"}
        one.save()
        made.append(one)
    return made


def sent_once(queue):
    made = letters()
    one = redrive.start(Selection(queues=(QUEUE,)), by="ana")
    driver = drive.driver_of(one)
    assert driver.drive(30) is None
    driver.publisher.close()
    one.refresh_from_db()
    assert (one.sent, one.skipped, one.state) == (5, 0, "watching")
    found = eventually(queue)
    assert [one.headers["id"] for one in found] == [one.task_id for one in made]
    for got, dead in zip(found, DeadLetter.objects.order_by("pk"), strict=True):
        wanted = message(dead)
        assert (dead.state, dead.replay_number, dead.sent_at is not None) == (State.REPLAYING, 1, True)
        assert (got.body if isinstance(got.body, bytes) else got.body.encode()) == wanted.body
        assert (got.content_type, got.content_encoding) == (wanted.content_type, wanted.content_encoding)
        assert {**got.headers, COPY_HEADER: ""} == {**wanted.headers, COPY_HEADER: ""}
        properties = {
            name: got.properties.get(name) for name in ("correlation_id", "delivery_mode", "priority", "expiration")
        }
        assert properties == {"correlation_id": dead.task_id, "delivery_mode": 2, "priority": 0, "expiration": None}
    assert len({one.headers[COPY_HEADER] for one in found}) == 5


def test_on_redis(queue):
    sent_once(queue)


@pytest.mark.rabbitmq
def test_on_rabbitmq(on_rabbitmq, queue):
    letters_before = DeadLetter.objects.count()
    assert letters_before == 0
    current_app.amqp.queues.select_add(QUEUE)
    sent_once(queue)


@pytest.mark.rabbitmq
def test_a_queue_that_does_not_exist_and_what_amqp_has_no_form_for_are_told_and_stay_open(on_rabbitmq, queue):
    fine, lost = (
        letter(0, task_name="tests.anything", queue=QUEUE),
        letter(1, task_name="tests.anything", queue="no-such-queue"),
    )
    odd = letter(2, task_name="tests.anything", queue=QUEUE, body=ALONE)
    odd.headers = {**odd.headers, "price": {"__type__": "decimal", "__value__": "x"}}
    odd.save()
    one = redrive.start(Selection(), by="ana")
    driver = drive.driver_of(one)
    driver.drive(30)
    driver.publisher.close()
    one.refresh_from_db()
    assert (one.sent, one.skipped) == (1, 2)
    assert "AMQP cannot carry" in RedriveItem.objects.get(dead_letter=odd).why
    assert RedriveItem.objects.get(dead_letter=lost).why == "there is no queue 'no-such-queue'"
    assert DeadLetter.objects.get(pk=lost.pk).state == State.OPEN
    assert DeadLetter.objects.get(pk=fine.pk).state == State.REPLAYING


@pytest.mark.rabbitmq
def test_a_single_replay_to_a_queue_that_does_not_exist_is_told_and_its_letter_stays_open(on_rabbitmq):
    lost = letter(queue="no-such-queue")
    with pytest.raises(NotSent, match="there is no queue 'no-such-queue'"):
        replay(lost, by=None)
    assert DeadLetter.objects.get().state == State.OPEN


@pytest.mark.rabbitmq
@pytest.mark.timeout(60)
def test_a_broker_that_confirms_nothing_holds_nobody_for_ever(on_rabbitmq, rabbitmq, queue, monkeypatch):
    dead = letter(queue=QUEUE)
    publisher = Publisher(current_app)
    publisher.send([Ready.of(dead, message(dead))])
    monkeypatch.setattr(publish_amqp, "_PATIENCE", 0.5)
    with rabbitmq.silent(), pytest.raises(Unsent, match=r"not confirmed|timed out"):
        publisher.send([Ready.of(dead, message(dead))])
    assert publisher._connection is None


def test_a_broker_that_is_away_loses_nothing_and_stops_the_redrive(queue, monkeypatch):
    made = [letter(number, task_name="tests.anything", queue=QUEUE) for number in range(3)]
    one = redrive.start(Selection(), by="ana")
    inspection.cluster()
    monkeypatch.setattr(current_app.conf, "broker_write_url", "redis://127.0.0.1:1/0")
    driver = drive.driver_of(one)
    waits = [driver.drive(30) for _ in range(6)]
    assert waits == [1, 2, 4, 8, 16, None]
    one.refresh_from_db()
    assert (one.state, one.sent) == (Redrive.State.STOPPED, 0)
    assert "The broker did not take the messages" in one.why
    assert {one.state for one in DeadLetter.objects.all()} == {State.OPEN}
    monkeypatch.undo()
    redrive.resume(one, by="ana")
    driver = drive.driver_of(one)
    driver.drive(30)
    driver.publisher.close()
    one.refresh_from_db()
    assert one.sent == len(made)


def test_nothing_is_confirmed_by_a_broker_that_is_away(monkeypatch):
    monkeypatch.setattr(current_app.conf, "broker_write_url", "redis://127.0.0.1:1/0")
    dead = letter(0)
    with pytest.raises(Unsent) as refusal:
        Publisher(current_app).send([Ready.of(dead, message(dead))])
    assert refusal.value.confirmed == frozenset()
    assert json.loads(Ready.of(dead, message(dead)).headers)["id"] == dead.task_id


def test_two_redrives_of_the_same_letters_send_each_once(queue):
    for number in range(40):
        letter(number, task_name="tests.anything", queue=QUEUE)
    both = [redrive.start(Selection(queues=(QUEUE,)), by=who) for who in ("ana", "ben")]
    inspection.cluster()

    def go(one):
        driver = drive.driver_of(one)
        driver.drive(30)
        driver.publisher.close()
        connection.close()

    threads = [threading.Thread(target=go, args=(one,)) for one in both]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(Redrive.objects.values_list("sent", flat=True)) == 40
    assert set(DeadLetter.objects.values_list("replay_number", flat=True)) == {1}
    assert len({one.headers["id"] for one in queue()}) == 40
