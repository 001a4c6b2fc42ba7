"""RabbitMQ's confirms, awaited once a batch: py-amqp awaits each before it writes the next, which takes 4 s for 1,000 messages."""

import time
from collections.abc import Callable
from typing import Any

from kombu.exceptions import OperationalError

# A broker that confirms nothing for so long (seconds) is as good as away.
PATIENCE = 10.0
# How long (seconds) one look at the socket takes at most; whoever waits renews its lease in between.
LOOK = 0.5


class Confirms:
    """Takes over publishing on one py-amqp channel."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel
        self.tag = 0  # of the last message; the broker counts a channel's messages from 1
        self._awaited: set[int] = set()
        self._refused: set[int] = set()
        channel.confirm_select()
        channel.events["basic_ack"].add(self._on_ack)
        channel.events["basic_nack"].add(self._on_nack)
        channel.basic_publish = self._publish

    def wait(self, between: Callable[[], None]) -> set[int]:
        """Until the broker has answered for all that was published; returns the tags that it refused, as a full queue does.

        `between` is called now and then, and may raise.

        Raises:
            OperationalError: it says nothing.
        """
        deadline = time.monotonic() + PATIENCE
        while self._awaited:
            between()
            if time.monotonic() > deadline:
                raise OperationalError(f"{len(self._awaited)} messages were not confirmed within {PATIENCE:.0f} s")
            try:
                self._channel.connection.drain_events(timeout=LOOK)
            except TimeoutError:
                continue
        refused, self._refused = self._refused, set()
        return refused

    def _publish(self, *args: Any, **kwargs: Any) -> None:
        self._channel._basic_publish(*args, **kwargs)
        self.tag += 1
        self._awaited.add(self.tag)

    def _on_ack(self, tag: int, multiple: bool) -> None:  # noqa: FBT001  (py-amqp's signature)
        self._awaited -= self._meant(tag, multiple=multiple)

    def _on_nack(self, tag: int, multiple: bool) -> None:  # noqa: FBT001
        meant = self._meant(tag, multiple=multiple)
        self._refused |= meant
        self._awaited -= meant

    def _meant(self, tag: int, *, multiple: bool) -> set[int]:
        return {known for known in self._awaited if known <= tag} if multiple else {tag}
