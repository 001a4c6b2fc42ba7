"""Send ready-made messages, one or many at once: in one pipeline on Redis, on one channel with confirms counted on RabbitMQ."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Self

from celery import Celery
from celery.exceptions import SoftTimeLimitExceeded
from kombu.utils.json import loads

from deadletters.envelope import UNREADABLE, Envelope, to_json
from deadletters.models import DeadLetter


class Ready(NamedTuple):
    """A replay's message, made up for the wire: headers and properties are JSON text already."""

    letter_id: int
    task_id: str
    queue: str
    priority: int | None
    headers: str
    properties: str
    body: bytes
    content_type: str
    content_encoding: str

    @classmethod
    def of(cls, letter: DeadLetter, message: Envelope) -> Self:
        """The message of one letter."""
        return cls(
            letter_id=letter.pk,
            task_id=letter.task_id,
            queue=message.queue,
            priority=letter.priority,
            headers=to_json(message.headers),
            properties=to_json({key: value for key, value in message.properties.items() if value is not None}),
            body=message.body,
            content_type=message.content_type,
            content_encoding=message.content_encoding,
        )

    def decoded(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Headers and properties as Python has them."""
        return loads(self.headers), loads(self.properties)


class Unsent(Exception):
    """The broker did not take (all of) the messages.

    `confirmed` are the letters whose messages it certainly has; `refused` are those that it will not take, however often it is asked.
    """

    def __init__(
        self, why: str, confirmed: frozenset[int] = frozenset(), refused: dict[int, str] | None = None
    ) -> None:
        super().__init__(why)
        self.confirmed, self.refused = confirmed, refused or {}


class Publisher:
    """Sends slices over one connection, which it makes anew when it broke. Not for two threads at once."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._connection: Any = None

    def send(self, messages: Sequence[Ready]) -> None:
        """Put each message into its queue, in order.

        Raises:
            Unsent: some or all of them were not confirmed.
            SoftTimeLimitExceeded: the task that sends has run for too long; nothing is known of the messages.
        """
        try:
            self._ensure()
            self._channel.send(messages)
        except Unsent as problem:
            if not problem.refused:
                self._abandon()
            raise
        except SoftTimeLimitExceeded:
            self._abandon()
            raise
        except Exception as problem:
            # Each transport has errors of its own. Nothing is known to be sent.
            self._abandon()
            raise Unsent(str(problem) or type(problem).__name__) from problem

    def close(self) -> None:
        """Give the connection back."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.release()

    def _abandon(self) -> None:
        """Close without a farewell: a RabbitMQ short of memory, which confirms nothing, would not answer that either."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.collect(socket_timeout=1)

    def _ensure(self) -> None:
        if self._connection is None:
            self._connection = self._app.connection_for_write()
            self._connection.ensure_connection(max_retries=2, interval_start=0, interval_step=0.2, timeout=5)
            self._channel = self._way()

    def _way(self) -> Any:
        from deadletters.replay import publish_amqp, publish_redis  # noqa: PLC0415  (they name Ready)

        kind = self._connection.transport.driver_type
        if kind == "redis":
            return publish_redis.Pipeline(self._connection.default_channel)
        if kind == "amqp" and self._connection.transport.driver_name == "py-amqp":
            return publish_amqp.ConfirmedChannel(self._connection.channel())
        return OneByOne(self._connection)


class OneByOne:
    """Any other transport, as fast as kombu is."""

    def __init__(self, connection: Any) -> None:
        self._producer = connection.Producer()

    def send(self, messages: Sequence[Ready]) -> None:
        """Publish each; what was published before an error is confirmed."""
        done: set[int] = set()
        refused: dict[int, str] = {}
        for message in messages:
            try:
                headers, properties = message.decoded()
            except UNREADABLE as problem:
                refused[message.letter_id] = str(problem)
                continue
            try:
                self._producer.publish(
                    message.body,
                    exchange="",
                    routing_key=message.queue,
                    headers=headers,
                    content_type=message.content_type,
                    content_encoding=message.content_encoding,
                    **properties,
                )
            except SoftTimeLimitExceeded:
                raise
            except Exception as problem:
                raise Unsent(str(problem), frozenset(done), refused) from problem
            done.add(message.letter_id)
        if refused:
            raise Unsent("; ".join(sorted(set(refused.values()))), frozenset(done), refused)
