"""What waits, asked of the broker. Questions only."""

import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from celery import current_app
from django_celery_beat.models import PeriodicTask
from kombu.exceptions import ChannelError
from kombu.utils.json import loads

from monitoring.broker import connected
from monitoring.models import PausedQueue

# Each message says when it was sent; a replay's is the envelope as it was, so it says nothing new.
SENT_HEADER = "sent_at"
REPLAY_HEADER = "dead_letter_replay"


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """A queue and how many messages wait in it (not those that a worker has already taken)."""

    name: str
    waiting: int
    # Seconds since the message that is next was sent; None: nothing waits, or it cannot be known (RabbitMQ shows nobody a message).
    oldest: float | None = None
    # Who keeps it from being consumed; None: nobody.
    paused: PausedQueue | None = None


def queues() -> list[Queue]:
    """The queues that the platform knows of, by name, each with what waits in it.

    Raises:
        BrokerAway: nobody could be asked.
    """
    paused = {row.name: row for row in PausedQueue.objects.all()}
    names = sorted({*queue_names(), *paused})
    with connected() as connection:
        return [_queue(connection, name, paused.get(name)) for name in names]


def queue_names() -> list[str]:
    """Queues that workers consume by default, that tasks name, or that an enabled schedule sends to."""
    routed = {queue for task in current_app.tasks.values() if (queue := getattr(task, "queue", None))}
    scheduled = PeriodicTask.objects.filter(enabled=True).exclude(queue=None).exclude(queue="")
    return sorted({*current_app.amqp.queues, *routed, *scheduled.values_list("queue", flat=True).distinct()})


def stamp(headers: dict[str, Any] | None = None, **_: Any) -> None:
    """Write into a message when it is sent (a receiver of `before_task_publish`)."""
    if headers is not None:
        headers[SENT_HEADER] = round(time.time(), 3)


def _queue(connection: Any, name: str, paused: PausedQueue | None) -> Queue:
    waiting = _waiting(connection, name)
    return Queue(name=name, waiting=waiting, oldest=_oldest(connection, name) if waiting else None, paused=paused)


def _waiting(connection: Any, name: str) -> int:
    # A passive declaration counts on every broker and creates nothing. On a channel of its own: AMQP closes it on a miss.
    channel = connection.channel()
    try:
        return int(channel.queue_declare(name, passive=True).message_count)
    except (ChannelError, *connection.channel_errors):
        # Nobody has sent to it or consumed from it yet (Redis keeps no empty lists), or Redis has something else under its name.
        return 0
    finally:
        channel.close()


def _oldest(connection: Any, name: str) -> float | None:
    """Redis' lists can be looked at: the message at the end is the next one."""
    if connection.transport.driver_type != "redis":
        return None
    channel = connection.channel()
    try:
        raw = channel.client.lindex(name, -1)
    finally:
        channel.close()
    with suppress(ValueError, TypeError, AttributeError):  # not one of our messages
        headers = loads(raw)["headers"]
        if REPLAY_HEADER not in headers and SENT_HEADER in headers:
            return max(0.0, time.time() - float(headers[SENT_HEADER]))
    return None
