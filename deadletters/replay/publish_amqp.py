"""Many messages on one AMQP channel: frames are written in bulk, and the broker's confirms are counted instead of awaited one by one."""

import struct
import time
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from amqp import spec
from amqp.basic_message import Message
from amqp.exceptions import FrameSyntaxError
from amqp.method_framing import frame_writer
from amqp.serialization import dumps
from celery.exceptions import SoftTimeLimitExceeded

from deadletters.envelope import UNREADABLE
from deadletters.replay.publish import Ready, Unsent

# A broker that has not confirmed a slice for so long is as good as away. Less than a driver's lease, or the next one sends it, too.
_PATIENCE = 10.0
# Written to the socket at once; small enough that confirms are read before the broker's own buffer fills.
_BYTES = 262_144


class _Frames:
    """Stands in for the transport: collects what py-amqp writes."""

    def __init__(self) -> None:
        self.bytes = bytearray()

    def write(self, frame: Any) -> None:
        self.bytes += frame


class ConfirmedChannel:
    """One py-amqp channel in confirm mode, used for nothing else."""

    def __init__(self, channel: Any) -> None:
        self._channel, self._connection = channel, channel.connection
        channel.confirm_select()
        self._tag = 0  # the broker counts a channel's messages from 1
        self._awaited: dict[int, int] = {}  # tag -> letter, in order
        self._confirmed: set[int] = set()
        self._refused: dict[int, str] = {}  # letter -> why
        self._letters: dict[str, int] = {}  # task id -> letter
        self._frames = _Frames()
        self._write_frame = frame_writer(self._connection, self._frames)
        channel.events["basic_ack"].add(self._on_ack)
        channel.events["basic_nack"].add(self._on_nack)
        channel.events["basic_return"].add(self._on_return)

    def send(self, messages: Sequence[Ready]) -> None:
        """Write all, then count the confirms.

        Raises:
            Unsent: the broker refused some, a queue does not exist, or the connection broke.
        """
        self._awaited, self._confirmed, self._refused = {}, set(), {}
        self._letters = {message.task_id: message.letter_id for message in messages}
        try:
            for message in messages:
                self._write(message)
            self._flush()
            self._await()
        except SoftTimeLimitExceeded:
            raise
        except Exception as problem:
            raise Unsent(str(problem) or type(problem).__name__, self._safe()) from problem
        if self._refused:
            raise Unsent("; ".join(sorted(set(self._refused.values()))), self._safe(), self._refused)

    def _safe(self) -> frozenset[int]:
        return frozenset(self._confirmed - self._refused.keys())

    def _write(self, ready: Ready) -> None:
        try:
            headers, properties = ready.decoded()
            message = Message(
                ready.body,
                content_type=ready.content_type,
                content_encoding=ready.content_encoding,
                application_headers=headers,
                **properties,
            )
            # Mandatory: to a queue that does not exist the broker would confirm and drop it.
            self._write_frame(1, self._channel.channel_id, spec.Basic.Publish, _arguments(ready.queue), message)
        except (FrameSyntaxError, *UNREADABLE, struct.error) as problem:
            # A header that AMQP has no form for (an integer beyond 64 bits); nothing of the message was written.
            self._refused[ready.letter_id] = f"AMQP cannot carry the message: {problem}"
            return
        self._tag += 1
        self._awaited[self._tag] = ready.letter_id
        if len(self._frames.bytes) > _BYTES:
            self._flush()

    def _flush(self) -> None:
        written, self._frames.bytes = self._frames.bytes, bytearray()
        self._connection.transport.write(bytes(written))

    def _await(self) -> None:
        deadline = time.monotonic() + _PATIENCE
        while self._awaited:
            if (left := deadline - time.monotonic()) <= 0:
                raise TimeoutError(f"{len(self._awaited)} messages were not confirmed within {_PATIENCE:.0f} s")
            self._connection.drain_events(timeout=left)

    def _on_ack(self, tag: int, multiple: bool) -> None:  # noqa: FBT001  (py-amqp's signature)
        self._confirmed.update(self._settled(tag, multiple=multiple))

    def _on_nack(self, tag: int, multiple: bool) -> None:  # noqa: FBT001
        for letter_id in self._settled(tag, multiple=multiple):
            self._refused[letter_id] = "the broker refused the message"

    def _on_return(self, problem: Any, exchange: str, queue: str, message: Any) -> None:  # noqa: ARG002
        letter_id = self._letters.get((message.headers or {}).get("id", ""))
        if letter_id is not None:
            self._refused[letter_id] = f"there is no queue {queue!r}"

    def _settled(self, tag: int, *, multiple: bool) -> list[int]:
        tags = [tag]
        if multiple:
            tags = []
            for awaited in self._awaited:
                if awaited > tag:
                    break
                tags.append(awaited)
        return [self._awaited.pop(known) for known in tags if known in self._awaited]


@lru_cache(maxsize=256)
def _arguments(queue: str) -> Any:
    """`basic.publish` to the default exchange, mandatory."""
    return dumps("Bssbb", (0, "", queue, True, False))
