"""How a batch of occurrences gets onto the broker."""

import uuid
from types import SimpleNamespace

import pytest
from celery import current_app

from schedules import edit
from schedules.due import Every
from schedules.models import Occurrence, Schedule
from schedules.publish import Parcel, Publisher, Sent
from schedules.reasons import plain
from schedules.run_now import NotRun, run_now

pytestmark = [pytest.mark.worker]


def parcels(number, **columns):
    row = {
        "name": "Many", "task": "elsewhere.task", "args": "[]", "kwargs": "{}", "headers": "{}", "queue": None, "exchange": None,
        "routing_key": None, "priority": None, "expires": None, "expire_seconds": None,
    }  # fmt: skip
    return [Parcel(uuid.uuid4(), SimpleNamespace(**row | columns)) for _ in range(number)]


@pytest.fixture
def publisher():
    made = Publisher(current_app._get_current_object())
    yield made
    made.close()


@pytest.mark.rabbitmq
def test_what_rabbitmq_refuses_is_sent_when_it_takes_it_and_the_others_are_sent_once(on_rabbitmq, publisher):
    """With one queue that takes two messages only."""
    with current_app.connection_for_write() as broker:
        channel = broker.default_channel
        limits = {"x-max-length": 2, "x-overflow": "reject-publish"}
        channel.queue_declare("narrow", durable=True, auto_delete=False, arguments=limits)
        channel.queue_bind("narrow", "amq.direct", "narrow")
        batch = parcels(20, exchange="amq.direct", routing_key="narrow")
        others = parcels(3, queue="wide")
        told = publisher.send([*batch[:10], *others, *batch[10:]], before_each=lambda: None)
        assert (told.refused, told.not_taken) == ({}, {parcel.id for parcel in batch[2:]})
        assert [channel.basic_get("wide", no_ack=True).headers["id"] for _ in others] == [str(o.id) for o in others]

        channel.queue_delete("narrow")
        channel.queue_declare("narrow", durable=True, auto_delete=False)
        channel.queue_bind("narrow", "amq.direct", "narrow")
        assert publisher.send(batch, before_each=lambda: None) == Sent({}, set())
        sent = [channel.basic_get("narrow", no_ack=True).headers["id"] for _ in batch]
        channel.queue_delete("narrow")
    assert sent == [str(parcel.id) for parcel in batch]


@pytest.mark.rabbitmq
def test_what_rabbitmq_refuses_by_closing_the_channel_stops_no_other(on_rabbitmq, publisher):
    """An exchange that is not there, and a queue that is declared otherwise."""
    with current_app.connection_for_write() as broker:
        channel = broker.default_channel
        channel.queue_declare("otherwise", durable=True, auto_delete=False, arguments={"x-max-priority": 3})
        try:
            lost, (odd,) = parcels(2, exchange="nowhere", routing_key="x"), parcels(1, queue="otherwise")
            others = parcels(9, queue="wide")
            told = publisher.send(
                [*others[:3], lost[0], *others[3:6], odd, *others[6:], lost[1]], before_each=lambda: None
            )
            assert told.refused.keys() == {odd.id, *(parcel.id for parcel in lost)}
            assert "no exchange 'nowhere'" in plain(told.refused[lost[0].id])
            assert "x-max-priority" in plain(told.refused[odd.id])
            assert told.not_taken == set()
            arrived = set()
            while message := channel.basic_get("wide", no_ack=True):
                arrived.add(message.headers["id"])
            assert arrived == {str(parcel.id) for parcel in others}
            # Others are not made to reconnect for them each second.
            connection = publisher._connected().__connection__
            assert publisher.send([*lost, odd, *others], before_each=lambda: None).refused == told.refused
            assert publisher._connected().__connection__ is connection
        finally:
            channel.queue_delete("otherwise")
            channel.queue_delete("wide")


def test_what_redis_refuses_stops_no_other(publisher):
    """A queue whose name is that of something else."""
    with current_app.connection_for_write() as broker:
        redis = broker.default_channel.client
        redis.hset("no-list", "a", "b")
        (odd,), others = parcels(1, queue="no-list"), parcels(4, queue="wide")
        told = publisher.send([*others[:2], odd, *others[2:]], before_each=lambda: None)
        waits = redis.llen("wide")
        redis.delete("no-list", "wide")
        assert told.refused.keys() == {odd.id}
        assert "WRONGTYPE" in plain(told.refused[odd.id])
        assert waits >= len(others)


@pytest.mark.rabbitmq
@pytest.mark.django_db(transaction=True)
def test_run_now_says_what_rabbitmq_refuses_and_leaves_no_trace(on_rabbitmq, admin_user):
    schedule = Schedule(name="Astray", task="elsewhere.task", exchange="nowhere", routing_key="x")
    edit.place(schedule, Every.parse(1, "days"))
    edit.save(schedule)
    with pytest.raises(NotRun, match="no exchange 'nowhere'"):
        run_now(schedule, by=admin_user)
    assert not Occurrence.objects.exists()
    Schedule.objects.update(exchange=None, routing_key=None, queue="by-hand")
    run_now(Schedule.objects.get(), by=admin_user)
    with current_app.connection_for_write() as broker:
        assert broker.default_channel.queue_delete("by-hand") == 1
