"""What Redis gives to a worker stays in Redis until the worker has settled it."""

import time
import uuid

import pytest
import redis
from django.conf import settings
from kombu import Connection, Consumer, Queue

from config.celery import app
from config.embedded import Redis, free_port, new_password
from deadletters.capture import unacked
from deadletters.capture.heartbeats import Heartbeat
from deadletters.capture.transport import Channel, abandon, owed
from tests.processes import eventually

QUEUE = "transport-test"


@pytest.fixture
def server():
    with redis.Redis.from_url(settings.CELERY_BROKER_URL) as client:
        yield client
        client.delete(QUEUE, "unacked", "unacked_index", unacked.OWNERS)


def own(channel, name):
    """As a worker that is alive does: a worker of other tests, which shares this Redis, buries the dead."""
    unacked.sign(channel, name, (), 60)
    unacked.own(channel, name)


@pytest.fixture
def connection():
    with Connection(settings.CELERY_BROKER_URL) as connection:
        yield connection


def test_a_message_that_a_worker_asked_for_and_never_read_is_still_in_redis(server, connection):
    connection.SimpleQueue(QUEUE).put({"n": 1})
    before = set(server.hkeys("unacked"))
    with Connection(settings.CELERY_BROKER_URL) as doomed:
        channel = doomed.default_channel
        assert type(channel) is Channel
        Consumer(channel, [Queue(QUEUE)]).consume()
        channel.client.connection = channel.client.connection_pool.get_connection()
        channel._brpop_start()
        eventually(lambda: server.llen(QUEUE) == 0, 10, "Redis has given the message away")
        channel.client.connection.disconnect()  # as a killed process does: the answer was not read
        channel._in_poll = None
        (tag,) = set(server.hkeys("unacked")) - before
    assert server.zscore("unacked_index", tag)
    connection.default_channel.qos.restore_by_tag(tag.decode())
    message = connection.SimpleQueue(QUEUE).get(timeout=5)
    assert message.payload == {"n": 1}
    message.ack()
    assert not server.hexists("unacked", tag)


def test_bytes_that_were_taken_and_never_read_come_back_as_a_message(server, connection):
    server.lpush(QUEUE, b"\xff\x00 rubbish")
    with Connection(settings.CELERY_BROKER_URL) as doomed:
        channel = doomed.default_channel
        Consumer(channel, [Queue(QUEUE)]).consume()
        channel.client.connection = channel.client.connection_pool.get_connection()
        channel._brpop_start()
        eventually(lambda: server.llen(QUEUE) == 0, 10)
        channel.client.connection.disconnect()
        channel._in_poll = None
        (tag,) = server.hkeys("unacked")
    connection.default_channel.qos.restore_by_tag(tag.decode())
    message = connection.SimpleQueue(QUEUE).get(timeout=5)
    assert bytes.fromhex(message.body.decode()) == b"\xff\x00 rubbish"
    message.ack()


def test_a_priority_queue_is_looked_at_while_the_worker_waits(server, connection):
    received = []
    channel = connection.default_channel
    with Consumer(
        channel,
        [Queue(QUEUE), Queue(f"{QUEUE}-2")],
        callbacks=[lambda body, message: received.append(body) or message.ack()],
    ):
        producer = connection.Producer()
        producer.publish(1, routing_key=QUEUE, priority=9)
        producer.publish(2, routing_key=f"{QUEUE}-2", priority=0)
        while len(received) < 2:
            connection.drain_events(timeout=10)
    assert sorted(received) == [1, 2]


def test_half_a_surrogate_pair_arrives_as_it_was_sent(server, connection):
    text, received = "half a pair \udcff, a backslash \\ud800, a whole one \U0001f600", []
    with Consumer(connection, [Queue(QUEUE)], callbacks=[lambda _body, message: received.append(message)]):
        connection.Producer().publish({"n": 1}, routing_key=QUEUE, headers={"argsrepr": text})
        while not received:
            connection.drain_events(timeout=10)
    (message,) = received
    assert (message.payload, message.headers["argsrepr"]) == ({"n": 1}, text)
    assert server.hkeys("unacked") == [message.delivery_tag.encode()]
    message.ack()
    assert not server.exists("unacked")


def test_what_nobody_acknowledges_leaves_no_note(server, connection):
    received = []
    with Consumer(connection, [Queue(QUEUE)], no_ack=True, callbacks=[lambda body, _message: received.append(body)]):
        connection.Producer().publish({"n": 1}, routing_key=QUEUE)
        while not received:
            connection.drain_events(timeout=10)
    assert not server.exists("unacked", "unacked_index")


def test_redis_has_heard_of_a_worker_before_it_takes_a_message(connection):
    heartbeat = Heartbeat(app, "w@host")
    assert not unacked.is_signed(connection.default_channel, heartbeat.worker_id)
    heartbeat.hold(connection.default_channel)
    assert unacked.is_signed(connection.default_channel, heartbeat.worker_id)
    unacked.unsign(connection.default_channel, heartbeat.worker_id)


def test_a_message_is_noted_once_as_it_is_taken_or_as_it_is_asked_for(server, connection):
    channel, name, received = connection.default_channel, uuid.uuid4(), []
    own(channel, name)
    connection.SimpleQueue(QUEUE).put({"n": 1})
    as_it_came = server.lindex(QUEUE, 0).replace(b", ", b" , ")  # as no serializer writes it
    server.lset(QUEUE, 0, as_it_came)
    with Consumer(connection, [Queue(QUEUE)], callbacks=[lambda _body, message: received.append(message)]):
        connection.drain_events(timeout=10)
    tag = received[0].delivery_tag
    assert as_it_came in server.hget("unacked", tag)
    received[0].requeue()
    assert not server.exists("unacked", unacked.OWNERS)
    message = channel.basic_get(QUEUE)
    assert message.delivery_tag == tag
    assert server.hget(unacked.OWNERS, tag).decode() == str(name)
    message.ack()
    assert not server.exists("unacked", "unacked_index", unacked.OWNERS, QUEUE)


def test_what_another_worker_took_over_meanwhile_is_not_given_back_once_more(server, connection):
    names, received = [uuid.uuid4(), uuid.uuid4()], []
    with (
        Connection(settings.CELERY_BROKER_URL) as first,
        Connection(settings.CELERY_BROKER_URL) as second,
        Connection(settings.CELERY_BROKER_URL) as again,
    ):
        for taking, name in ((first, names[0]), (second, names[1]), (again, names[0])):
            own(taking.default_channel, name)
        connection.SimpleQueue(QUEUE).put({"n": 1})
        for taking in (first, second):
            Consumer(taking, [Queue(QUEUE)], callbacks=[lambda _body, message: received.append(message)]).consume()
        first.drain_events(timeout=10)
        # The first one is cut off and taken for dead.
        unacked.restore(second.default_channel, lambda name: name == names[0])
        second.drain_events(timeout=10)
        abandon([first.default_channel], running=())
        assert owed()
        Consumer(again, [Queue(f"{QUEUE}-2")]).consume()  # the first one is back
        assert not owed()
        assert len(received) == 2
        assert server.hget(unacked.OWNERS, received[1].delivery_tag).decode() == str(names[1])
        assert not server.exists(QUEUE)
        received[1].ack()


def test_an_answer_that_was_left_unread_for_long_is_not_delivered_beside_its_message(server, connection, settings):
    settings.WORKER_LOST_AFTER = 0.2
    channel, name, received = connection.default_channel, uuid.uuid4(), []
    own(channel, name)
    connection.SimpleQueue(QUEUE).put({"n": 1})
    with Consumer(connection, [Queue(QUEUE)], callbacks=[lambda _body, message: received.append(message)]):
        channel.client.connection = channel.client.connection_pool.get_connection()
        channel._brpop_start()
        eventually(lambda: server.llen(QUEUE) == 0, 10, "it is taken")
        time.sleep(0.3)
        assert unacked.give_back_unheard(channel, name, held=(), seconds=0.2) == 1
        channel._brpop_read()
        assert not received
        while not received:
            connection.drain_events(timeout=10)
    assert len(received) == 1
    assert not server.exists(QUEUE)
    received[0].ack()


def test_what_cannot_be_settled_now_takes_no_place_among_the_prefetched(tmp_path):
    broker = Redis(tmp_path / "redis", port=free_port(), password=new_password())
    broker.start()
    try:
        with Connection(broker.url) as taking:
            received = []
            channel = taking.default_channel
            channel.basic_qos(0, 1)
            taking.SimpleQueue(QUEUE).put({"n": 1})
            Consumer(channel, [Queue(QUEUE)], callbacks=[lambda _body, message: received.append(message)]).consume()
            taking.drain_events(timeout=10)
            assert not channel.qos.can_consume()
            broker.stop()
            received[0].ack()
            assert owed() == {received[0].delivery_tag}
            assert channel.qos.can_consume()
            broker.start()
            with Connection(broker.url) as again:
                Consumer(again, [Queue(QUEUE)]).consume()
                assert not owed()
                assert not again.default_channel.client.exists("unacked")
    finally:
        broker.stop()
