"""Who is alive and what waits, asked of the broker. Questions only: nothing here changes what a worker does."""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from celery import current_app
from django_celery_beat.models import PeriodicTask
from kombu.exceptions import ChannelError, OperationalError

logger = logging.getLogger(__name__)

# Workers answer a ping in milliseconds; one that needs longer is found at the next look.
PING_SECONDS = 0.7
# Polls of many people within this time share one ping.
FRESH_SECONDS = 5.0
# A worker that was stopped on purpose is not mourned for longer than this.
FORGET_SECONDS = 600.0
CONNECT_SECONDS = 2


class BrokerAway(Exception):
    """The broker does not answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workers:
    """Names of the workers that answered the last ping, and of those that used to (with seconds of silence)."""

    alive: tuple[str, ...]
    silent: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """A queue and how many messages wait in it (not those that a worker has already taken)."""

    name: str
    waiting: int


class Pings:
    """The last ping's answers, at most FRESH_SECONDS old. One thread of a process asks; the others take what is there."""

    def __init__(self) -> None:
        self._seen: dict[str, float] = {}  # worker -> monotonic time of its last answer
        self._asked_at = float("-inf")
        self._away = False
        self._lock = threading.Lock()

    def workers(self) -> Workers:
        """Who is alive.

        Raises:
            BrokerAway: nobody could be asked.
        """
        stale = time.monotonic() - self._asked_at > FRESH_SECONDS
        # The first ever caller waits for the answer; later ones that come while somebody asks see the old one.
        if stale and self._lock.acquire(blocking=self._asked_at == float("-inf")):
            try:
                self._ask()
            finally:
                self._lock.release()
        if self._away:
            raise BrokerAway
        now, seen = self._asked_at, dict(self._seen)
        return Workers(
            alive=tuple(sorted(name for name, at in seen.items() if at >= now)),
            silent=tuple(sorted((name, now - at) for name, at in seen.items() if at < now)),
        )

    def forget(self) -> None:
        """Ask again at the next look."""
        self._seen, self._asked_at = {}, float("-inf")

    def _ask(self) -> None:
        if time.monotonic() - self._asked_at <= FRESH_SECONDS:
            return  # another thread asked while this one waited for the lock
        try:
            names = list(ping())
            self._away = False
        except BrokerAway:
            names, self._away = [], True
        now = time.monotonic()
        kept = {name: at for name, at in self._seen.items() if now - at < FORGET_SECONDS}
        self._seen, self._asked_at = {**kept, **dict.fromkeys(names, now)}, now


pings = Pings()


def alive() -> Workers:
    """Who answered the last ping, at most FRESH_SECONDS ago.

    Raises:
        BrokerAway: nobody could be asked.
    """
    return pings.workers()


def ping() -> dict[str, Any]:
    """Ask all workers, in one call of PING_SECONDS; returns who answered.

    Raises:
        BrokerAway: nobody could be asked.
    """
    with _broker() as connection:
        return current_app.control.inspect(timeout=PING_SECONDS, connection=connection).ping() or {}


def queues() -> list[Queue]:
    """The queues that the platform knows of, by name, each with what waits in it.

    Raises:
        BrokerAway: nobody could be asked.
    """
    names = queue_names()
    with _broker() as connection:
        return [Queue(name=name, waiting=_waiting(connection, name)) for name in names]


def queue_names() -> list[str]:
    """Queues that workers consume by default, that tasks name, or that an enabled schedule sends to."""
    routed = {queue for task in current_app.tasks.values() if (queue := getattr(task, "queue", None))}
    scheduled = PeriodicTask.objects.filter(enabled=True).exclude(queue=None).exclude(queue="")
    return sorted({*current_app.amqp.queues, *routed, *scheduled.values_list("queue", flat=True).distinct()})


def _waiting(connection: Any, name: str) -> int:
    # A passive declaration counts on every broker and creates nothing. On a channel of its own: AMQP closes it on a miss.
    channel = connection.channel()
    try:
        return int(channel.queue_declare(name, passive=True).message_count)
    except ChannelError:
        return 0  # nobody has sent to it or consumed from it yet (Redis keeps no empty lists)
    finally:
        channel.close()


@contextmanager
def _broker() -> Iterator[Any]:
    """A connection that gives up within seconds, so that a page never hangs on a broker that is away."""
    options = {}
    if str(current_app.conf.broker_write_url or "").startswith("redis"):
        options = {"socket_connect_timeout": CONNECT_SECONDS, "socket_timeout": CONNECT_SECONDS + PING_SECONDS}
    with current_app.connection_for_write(connect_timeout=CONNECT_SECONDS, transport_options=options) as connection:
        away: tuple[type[BaseException], ...] = (OperationalError, *connection.connection_errors)
        try:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=CONNECT_SECONDS)
            yield connection
        except away as problem:
            logger.warning("broker.away", extra={"reason": type(problem).__name__})
            raise BrokerAway from problem
