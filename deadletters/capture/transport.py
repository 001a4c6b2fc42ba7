"""kombu's Redis transport without its three ways of losing a message, or the worker.

- A message is taken and noted as unacknowledged in one step. kombu pops it first: what a killed worker or a cut connection had popped
  and not noted was gone.
- Bytes that are no message become a letter. kombu raises, which ends the worker, and then the next one.
- After a lost connection messages are settled through the new one, by their tag. kombu 5.7 asks the dead channel, which ends the worker.

Used for every `redis://` and `rediss://` of a process in which this app is installed. Needs Redis 6.2.
"""

import base64
import logging
import time
import uuid
import weakref
from collections.abc import Container, Iterable
from typing import Any

from django.conf import settings
from kombu.transport import TRANSPORT_ALIASES
from kombu.transport import redis as stock
from kombu.transport.virtual import base as virtual
from kombu.utils.encoding import bytes_to_str
from kombu.utils.json import dumps, loads

from deadletters.capture.capture import DATABASE_PAUSE
from deadletters.capture.quarantine import quarantine
from deadletters.capture.spool import SpoolError
from deadletters.capture.unacked import OWNERS, give_back

logger = logging.getLogger(__name__)

# Seconds. Nothing can wait for several lists without popping from them: an idle worker waits for the first queue's list, and looks at all
# of its queues and priorities this often.
_LOOK_EVERY = 0.1

# Takes the next message of the first list that has one, and notes it as kombu does, under its delivery tag. What has none is noted as
# a message of ours that holds the bytes in hexadecimal. KEYS: the notes, their index, their owners, the lists in order. ARGV: now, a
# fresh tag, the worker (empty: no worker).
_TAKE = """
for i = 4, #KEYS do
  local item = redis.call('RPOP', KEYS[i])
  if item then
    local noted, tag, exchange, key = item, ARGV[2], '', KEYS[i]
    local read, message = pcall(cjson.decode, item)
    if not read then
      -- Half a surrogate pair, as Python writes it: cjson refuses it. Only read like that, the note has it as it came.
      read, message = pcall(cjson.decode, (item:gsub('\\\\u[dD][89a-fA-F]%x%x', '\\\\u0020')))
    end
    local properties = read and type(message) == 'table' and message.properties
    local delivery = type(properties) == 'table' and properties.delivery_info
    if type(delivery) == 'table' and type(properties.delivery_tag) == 'string'
        and type(delivery.exchange) == 'string' and type(delivery.routing_key) == 'string' then
      tag, exchange, key = properties.delivery_tag, delivery.exchange, delivery.routing_key
    else
      noted = cjson.encode({
        body = item:gsub('.', function(c) return string.format('%02x', c:byte()) end),
        ['content-type'] = 'text/plain', ['content-encoding'] = 'us-ascii', headers = {hexadecimal = true},
        properties = {delivery_tag = tag, delivery_info = {exchange = '', routing_key = key}},
      })
    end
    redis.call('ZADD', KEYS[2], ARGV[1], tag)
    redis.call('HSET', KEYS[1], tag, '[' .. noted .. ',' .. cjson.encode(exchange) .. ',' .. cjson.encode(key) .. ']')
    if ARGV[3] ~= '' then redis.call('HSET', KEYS[3], tag, ARGV[3]) end
    return {KEYS[i], item, tag}
  end
end
return false
"""

# Messages whose connection was lost before they were settled: tag -> whether to put it back into its queue.
_owed: dict[str, bool] = {}
# The channel that consumes now.
_live: "weakref.ref[Channel] | None" = None


class NotAMessage(ValueError):
    """The bytes are no message; the text says what is wrong with them."""


class Message(virtual.Message):  # type: ignore[misc]  # kombu ships no types
    """A message, or NotAMessage."""

    def __init__(self, payload: Any, channel: Any = None, **kwargs: Any) -> None:
        try:
            super().__init__(payload, channel=channel, **kwargs)
        except (TypeError, ValueError, LookupError, AttributeError) as problem:
            raise NotAMessage(f"not a kombu message: {problem!r}") from problem


class StrictBase64(virtual.Base64):  # type: ignore[misc]
    """Refuses what kombu's decoder skips over in silence."""

    def decode(self, s: str) -> bytes:
        return base64.b64decode(s, validate=True)


class Channel(stock.Channel):  # type: ignore[misc]
    """A channel that takes, delivers and settles as this module says."""

    Message = Message
    codecs = {**stock.Channel.codecs, "base64": StrictBase64()}
    # Its connection broke: nothing more goes through it.
    lost = False
    # The tag of the message that is being delivered: the script has noted it.
    noted = ""
    # Whether the last look found nothing: the next command waits.
    _idle = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # The queues whose messages nobody acknowledges: answers to `inspect`, for one.
        self._unacknowledged: set[str] = set()
        super().__init__(*args, **kwargs)

    @property
    def owner(self) -> str:
        """The worker that takes messages through this channel; empty: no worker."""
        return getattr(self.qos, "owner", "")

    # --- Taking. Names are kombu's: its poller calls them -----------------------------------------------------------

    def _brpop_start(self, timeout: float | None = None) -> None:  # noqa: ARG002
        queues = self._queue_cycle.consume(len(self.active_queues))
        if not queues:
            return
        lists = [
            self.global_keyprefix + self._q_for_pri(queue, step) for step in self.priority_steps for queue in queues
        ]
        connection = self._in_poll = self.client.connection
        self._brpop_sent_at = time.monotonic()
        if self._idle:
            # From the end of a list to the end of the same list: waits for a message and leaves it where it is.
            connection.send_command("BLMOVE", lists[0], lists[0], "RIGHT", "RIGHT", _LOOK_EVERY)
            return
        notes = [self.global_keyprefix + key for key in (self.unacked_key, self.unacked_index_key, OWNERS)]
        fresh = str(uuid.uuid4())
        connection.send_command("EVAL", _TAKE, len(notes + lists), *notes, *lists, time.time(), fresh, self.owner)

    def _brpop_read(self, **options: Any) -> bool:
        waited = self._idle
        try:
            try:
                reply = self.client.parse_response(self.client.connection, "BLMOVE" if waited else "EVAL", **options)
            except self.connection_errors:
                self.client.connection.disconnect()
                raise
            finally:
                self._idle = False
            if waited:
                raise stock.Empty
            if not reply:
                self._idle = True
                raise stock.Empty
            self._deliver(*reply)
            return True
        finally:
            self._in_poll = None
            self._flush_brpop_reauth()

    def _deliver(self, key: bytes, item: bytes, tag: bytes) -> None:
        queue = bytes_to_str(key)[len(self.global_keyprefix) :].rsplit(self.sep, 1)[0]
        self._queue_cycle.rotate(queue)
        if time.monotonic() - self._brpop_sent_at > settings.WORKER_LOST_AFTER / 2:
            # kombu leaves an answer unread while nothing may be prefetched, and a worker gives back what it took and did not hear of.
            give_back(self, tag, self.owner)
            return
        self.noted = tag.decode(errors="replace")
        try:
            self.connection._deliver(_payload(item, self.noted), queue)
        except (NotAMessage, RecursionError) as problem:
            try:
                quarantine(item, queue, problem)
            except SpoolError:
                logger.exception("message.not_quarantined", extra={"queue": queue, "requeued": True})
                time.sleep(DATABASE_PAUSE)
                self.qos.restore_by_tag(tag)
            else:
                self.qos._remove_from_indices(tag).execute()
        else:
            if queue in self._unacknowledged:
                self.qos._remove_from_indices(tag).execute()
        finally:
            self.noted = ""

    def _do_restore_message(
        self,
        payload: Any,
        exchange: str,
        routing_key: str,
        pipe: Any,
        leftmost: bool = False,  # noqa: FBT001, FBT002  (kombu's signatures, here and below)
    ) -> None:
        if isinstance(payload, dict) and isinstance(payload.get("headers"), dict):
            super()._do_restore_message(payload, exchange, routing_key, pipe, leftmost)
        else:  # kombu would fail to mark it as redelivered, and drop it
            pipe.rpush(self._q_for_pri(routing_key, 0), dumps(payload))

    # --- Settling ---------------------------------------------------------------------------------------------------

    def basic_consume(self, queue: str, no_ack: bool, *args: Any, **kwargs: Any) -> Any:  # noqa: FBT001
        consumed = super().basic_consume(queue, no_ack, *args, **kwargs)
        if no_ack:
            self._unacknowledged.add(queue)
        else:
            self._unacknowledged.discard(queue)
            global _live  # noqa: PLW0603  (one consumer a process)
            _live = weakref.ref(self)
            _settle()
        return consumed

    def basic_ack(self, delivery_tag: str, multiple: bool = False) -> None:  # noqa: FBT001, FBT002
        self._settle_one(super().basic_ack, delivery_tag, multiple=multiple)

    def basic_reject(self, delivery_tag: str, requeue: bool = False) -> None:  # noqa: FBT001, FBT002
        self._settle_one(super().basic_reject, delivery_tag, requeue=requeue)

    def _settle_one(self, settle: Any, delivery_tag: str, **how: bool) -> None:
        if not self.lost:
            try:
                settle(delivery_tag, **how)
            except self.connection_errors as problem:
                logger.warning("message.settled_later", extra={"why": str(problem)})
                virtual.QoS.ack(self.qos, delivery_tag)  # or its place among the prefetched would stay taken
            else:
                return
        _owed[delivery_tag] = how.get("requeue", False)
        _settle()


class Transport(stock.Transport):  # type: ignore[misc]
    """Named in kombu's aliases by `connect()`."""

    Channel = Channel


def abandon(channels: Iterable[Any], running: Container[str]) -> None:
    """A connection was lost: nothing goes through its channels any more, and what is not running goes back to its queue.

    RabbitMQ's channels are left alone: it puts back itself what was not acknowledged.
    """
    for channel in channels:
        if isinstance(channel, Channel):
            # kombu would put back what is running, too, and through the dead connection.
            channel.lost, channel.do_restore = True, False
            channel.qos._flush()
            for tag in channel.qos._delivered:
                if tag not in running:
                    _owed.setdefault(tag, True)


def owed() -> set[str]:
    """The tags of messages that are done with, and wait for a connection to say so."""
    return set(_owed)


def connect() -> None:
    """Have kombu use this transport."""
    TRANSPORT_ALIASES.update(dict.fromkeys(("redis", "rediss"), f"{__name__}:Transport"))


def _settle() -> None:
    """Settle what is owed, as soon as there is a connection to do it through."""
    channel = _live() if _live else None
    if channel is None or channel.lost:
        return
    try:
        for tag, requeue in list(_owed.items()):
            if requeue:
                # While this worker was cut off, another one may have given it back, and a third one may be running it.
                give_back(channel, tag, channel.owner)
            else:
                channel.qos._remove_from_indices(tag).execute()
            del _owed[tag]
    except channel.connection_errors as problem:
        logger.warning("message.settled_later", extra={"why": str(problem), "messages": len(_owed)})


def _payload(item: bytes, tag: str) -> Any:
    try:
        payload = loads(bytes_to_str(item))
    except (ValueError, RecursionError) as problem:
        raise NotAMessage(f"not JSON: {problem}") from problem
    properties = payload.get("properties") if isinstance(payload, dict) else None
    if not isinstance(properties, dict) or properties.get("delivery_tag") != tag:
        raise NotAMessage("not a kombu message: it names no delivery tag, exchange and routing key")
    return payload
