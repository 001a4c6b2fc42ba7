"""The message that is replayed equals the one that died, byte for byte, on Redis and on RabbitMQ."""

import json
import uuid
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from config.celery import app
from deadletters.envelope import COPY_HEADER, REPLAY_HEADER
from deadletters.models import DeadLetter
from deadletters.replay.replay import replay
from tests.processes import Worker, eventually
from tests.tasks import add, boom_callback, collect, echo

pytestmark = [pytest.mark.worker, pytest.mark.django_db(transaction=True)]

CHANGED = {"retries", "eta", "expires", REPLAY_HEADER, COPY_HEADER}
VALUES = {
    "big": 2**80, "negative": -(2**70), "float": 0.1, "tiny": 5e-324, "text": "日本\u2028\x7f\"\\", "null": None, "deep": [[1], {"a": [True]}],
    "moment": datetime(2026, 11, 26, 1, 2, 3, 456789, tzinfo=UTC), "day": date(2026, 2, 28), "money": Decimal("10.10"),
    "id": uuid.UUID(int=7), "bytes": b"\x00\xff",
}  # fmt: skip


def send(queue):
    """A message with everything a message can have, for a task that nobody knows."""
    signature = app.signature("tests.nobody_knows", args=[VALUES, 2**63], kwargs={"more": VALUES}, app=app)
    signature.set(
        queue=queue, priority=5, headers={"tenant": "t-1", "deep": {"a": [1, None]}}, time_limit=77, soft_time_limit=66, shadow="as.shown",
        expires=datetime.now(UTC) + timedelta(hours=1), reply_to="somebody", link=[echo.s(), add.s(1)], link_error=[boom_callback.si("/nowhere")],
    )  # fmt: skip
    workflow = signature | echo.s() | collect.s()
    workflow.stamp(order="o-42", batch=["b-1", "b-2"])
    return workflow.apply_async().parent.parent


def replayed(queue, task_id, **environment):
    """The letter of a worker on that queue, which is gone when this returns; then it is replayed into the queue that nobody consumes."""
    letter = eventually(lambda: DeadLetter.objects.filter(task_id=task_id).first())
    assert (letter.queue, letter.cause) == (queue, "unknown_task")
    return letter


def unchanged(headers):
    return {name: value for name, value in headers.items() if name not in CHANGED}


def test_on_redis(django_db_setup, tmp_path):
    queue = "exact"
    task_id = send(queue).id
    with app.connection_for_write() as broker:
        client = broker.default_channel.client
        (name,) = [key for key in client.keys(f"{queue}*") if client.type(key) == b"list"]
        died = json.loads(client.lindex(name, 0))
        worker = Worker(tmp_path, queue=queue)
        try:
            letter = replayed(queue, task_id)
        finally:
            worker.stop()
        replay(letter, by=None)
        again = json.loads(client.lindex(name, 0))
        client.delete(name)
    assert again["body"] == died["body"]
    assert (again["content-type"], again["content-encoding"]) == (died["content-type"], died["content-encoding"])
    assert unchanged(again["headers"]) == unchanged(died["headers"])
    assert again["headers"]["expires"] is None
    assert again["headers"][REPLAY_HEADER] == 1
    for properties in (died["properties"], again["properties"]):
        properties["delivery_info"].pop("exchange"), properties["delivery_info"].pop("routing_key")
        properties.pop("delivery_tag")
    assert again["properties"] == died["properties"]


@pytest.mark.rabbitmq
def test_on_rabbitmq(django_db_setup, tmp_path, rabbitmq_url, on_rabbitmq):
    queue = "exact"
    task_id = send(queue).id
    with app.connection_for_write() as broker:
        channel = broker.default_channel
        message = channel.Message(channel.basic_get(queue), channel=channel)
        died = (
            message.body,
            message.content_type,
            message.content_encoding,
            dict(message.properties),
            dict(message.headers),
        )
        message.reject(requeue=True)
        worker = Worker(tmp_path, queue=queue, BROKER_URL=rabbitmq_url)
        try:
            letter = replayed(queue, task_id)
        finally:
            worker.stop()
        replay(letter, by=None)
        message = channel.Message(eventually(lambda: channel.basic_get(queue)), channel=channel)
        message.ack()
    body, content_type, content_encoding, properties, headers = died
    assert message.body == body
    assert (message.content_type, message.content_encoding) == (content_type, content_encoding)
    assert unchanged(message.headers) == unchanged(headers)
    for each in (properties, message.properties):
        each.pop("application_headers"), each.pop("expiration", None)
    assert message.properties == properties
