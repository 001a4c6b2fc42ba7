"""Redis only: which worker holds which unacknowledged message, so that what a dead one held is given back at once.

kombu keeps a message that a worker has taken in a hash, and gives it to another one when it has been there for the visibility
time-out: an hour, for it must be longer than any task. It does not know whose it is. Here that is written beside it, in the same
round trip; each worker renews what it holds, so that no message of a living worker is ever overdue, however long its task runs
or its `eta` waits; and what a dead worker held goes back to its queue. RabbitMQ knows both by the connection.
"""

from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from time import time
from typing import Any
from uuid import UUID

import redis
from celery import Celery
from kombu.transport import redis as transport
from kombu.transport import virtual
from kombu.utils.encoding import bytes_to_str
from kombu.utils.json import dumps, loads

# A hash: delivery tag -> id of the worker that holds it.
OWNERS = "unacked_owners"
# Seconds; Redis answers in less than one.
_PATIENCE = 5
_CHUNK = 1_000


class OwnedQoS(transport.QoS):  # type: ignore[misc]  # kombu ships no types
    """kombu's acknowledgements on Redis, which also note whose each message is."""

    def __init__(self, channel: Any, prefetch_count: int = 0, *, owner: str = "") -> None:
        super().__init__(channel, prefetch_count)
        self.owner = owner

    def append(self, message: Any, delivery_tag: str) -> None:
        """The message was taken: kombu's two writes, and the owner, in one transaction; none if it was noted as it was taken (transport.py)."""
        if delivery_tag != self.channel.noted:
            delivery = message.delivery_info
            raw = dumps([message._raw, delivery["exchange"], delivery["routing_key"]])
            with self.pipe_or_acquire() as pipe:
                pipe.zadd(self.unacked_index_key, {delivery_tag: time()}).hset(self.unacked_key, delivery_tag, raw)
                pipe.hset(OWNERS, delivery_tag, self.owner).execute()
        virtual.QoS.append(self, message, delivery_tag)

    def _remove_from_indices(self, delivery_tag: str, pipe: Any = None) -> Any:
        return super()._remove_from_indices(delivery_tag, pipe).hdel(OWNERS, delivery_tag)


def own(channel: Any, owner: UUID) -> None:
    """From now on what is taken through `channel` is the worker `owner`'s. Nothing happens on another broker."""
    is_redis = isinstance(channel, transport.Channel)
    if is_redis and channel.ack_emulation:
        channel.QoS = partial(OwnedQoS, owner=str(owner))
        channel._qos = None  # the event loop has looked at one already, before anything was consumed


@contextmanager
def channel_of(app: Celery) -> Iterator[Any]:
    """A channel to the broker for a moment, that gives up within seconds; None where the broker is not Redis."""
    patience = {"socket_timeout": _PATIENCE, "socket_connect_timeout": _PATIENCE}
    with app.connection_for_write() as connection:
        if connection.transport.driver_type != "redis":
            yield None
            return
        connection.transport_options = {**(connection.transport_options or {}), **patience}
        channel = connection.default_channel
        own(channel, UUID(int=0))
        yield channel


def sign(channel: Any, owner: UUID, tags: Iterable[str], seconds: float) -> None:
    """`owner` is alive, for `seconds` at least, and holds `tags`: they are not overdue."""
    client, prefix = _client(channel)
    client.set(f"{prefix}{_sign(owner)}", "", px=int(seconds * 1000))
    held, now = list(tags), time()
    for start in range(0, len(held), _CHUNK):
        # Only what is still there: it may have been acknowledged since.
        client.zadd(f"{prefix}{channel.unacked_index_key}", dict.fromkeys(held[start : start + _CHUNK], now), xx=True)


def give_back_unheard(channel: Any, owner: UUID, held: Container[str], seconds: float) -> int:
    """Give back what `owner` itself took and never heard of; returns how many messages.

    Redis noted the message as taken and went away before it answered. Nobody else may judge that: what the owner holds only it
    knows, and it renews that far more often than each `seconds`.
    """
    client, prefix = _client(channel)
    owners = _owners(channel)
    unheard = [tag for tag, name in owners.items() if name == str(owner) and tag not in held]
    taken = [client.zscore(f"{prefix}{channel.unacked_index_key}", tag) for tag in unheard]
    overdue = [tag for tag, at in zip(unheard, taken, strict=True) if at is not None and at < time() - seconds]
    return sum(give_back(channel, tag, str(owner)) for tag in overdue)


def unsign(channel: Any, owner: UUID) -> None:
    """`owner` ends."""
    client, prefix = _client(channel)
    client.delete(f"{prefix}{_sign(owner)}")


def is_signed(channel: Any, owner: UUID) -> bool:
    """Whether Redis heard of this worker within the seconds that it said."""
    client, prefix = _client(channel)
    return bool(client.exists(f"{prefix}{_sign(owner)}"))


def restore(channel: Any, is_dead: Callable[[UUID], bool]) -> int:
    """Give back to their queues what dead workers held; returns how many messages. Two at once give each back once."""
    held = _owners(channel)
    dead = {owner for owner in set(held.values()) if is_dead(UUID(owner))}
    return sum(give_back(channel, tag, owner) for tag, owner in held.items() if owner in dead)


def _owners(channel: Any) -> dict[str, str]:
    client, prefix = _client(channel)
    return {bytes_to_str(tag): bytes_to_str(owner) for tag, owner in client.hgetall(f"{prefix}{OWNERS}").items()}


def give_back(channel: Any, tag: str | bytes, owner: str) -> bool:
    """Put a message back into its queue if it still is `owner`'s (an empty text: nobody's); whether it was."""

    def transaction(pipe: Any) -> bool:
        is_its = bytes_to_str(pipe.hget(OWNERS, tag) or b"") == owner
        raw = pipe.hget(channel.unacked_key, tag)
        pipe.multi()
        if not is_its:
            return False  # somebody else gave it back meanwhile, and another worker may have it by now
        channel.qos._remove_from_indices(tag, pipe)
        if raw:
            payload, exchange, key = loads(bytes_to_str(raw))
            channel._do_restore_message(payload, exchange, key, pipe)
        return bool(raw)

    with channel.conn_or_acquire() as client:
        return bool(client.transaction(transaction, channel.unacked_key, OWNERS, value_from_callable=True))


def _client(channel: Any) -> tuple[Any, str]:
    # kombu's own client adds the prefix to some commands only.
    return redis.Redis(connection_pool=channel.pool), channel.global_keyprefix


def _sign(owner: UUID) -> str:
    return f"worker_alive:{owner}"
