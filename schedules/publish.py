"""Puts claimed occurrences on the broker."""

import logging
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from amqp import AccessRefused, NotFound, PreconditionFailed, ResourceLocked
from celery import Celery
from kombu.exceptions import BatchPublishError, OperationalError  # type: ignore[attr-defined]  # the stubs are behind

from schedules.confirms import Confirms
from schedules.message import COPY_HEADER, ROUTING, Unusable, compose, refused_arguments
from schedules.reasons import Reason, reason

logger = logging.getLogger(__name__)

# Celery's own mark of a message that beat sent.
BEAT_HEADER = "celery_beat_task"
BATCH = 500
# How long (seconds) an address that made the broker end the connection is not tried again.
REFUSING = 30.0


class BrokerAway(Exception):
    """Nobody knows which of the messages arrived; each may be sent again."""


class _NotThisWay(Exception):
    """The broker is there and refuses one of the messages for where it goes, by ending the connection that all of them take."""

    @property
    def for_others_too(self) -> bool:
        """Whether others that go there end it, too. Not for a message that is too large."""
        return "PRECONDITION_FAILED" not in str(self) or "inequivalent" in str(self)


@dataclass(frozen=True, slots=True)
class Parcel:
    """An occurrence to send: its id and its schedule's row."""

    id: UUID
    row: Any


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of parcels that are not on the broker: why some can never be sent, and which the broker does not take now."""

    refused: dict[UUID, list[Reason]]
    not_taken: set[UUID]


class Publisher:
    """One connection to the broker, made when it is needed and after it was lost."""

    def __init__(self, app: Celery) -> None:
        self.app = app
        self._producer: Any = None
        self._confirms: Confirms | None = None
        self._declared: set[tuple[Any, ...]] = set()  # where messages went on this connection
        # Where they cannot go: why, and until when that is believed.
        self._refusing: dict[tuple[Any, ...], tuple[str, float]] = {}

    def send(self, parcels: Sequence[Parcel], *, before_each: Callable[[], None]) -> Sent:
        """Send them in one flush where the transport can. `before_each` may raise to stop it.

        One that makes the broker end the connection is found by halving, so that it stops no other; workers drop second copies.

        Raises:
            BrokerAway: the broker does not answer.
        """
        try:
            return self._send(parcels, before_each)
        except _NotThisWay as problem:
            if len(parcels) == 1:
                if problem.for_others_too:
                    self._refusing[_way(parcels[0].row)] = str(problem), time.monotonic() + REFUSING
                return Sent({parcels[0].id: _said(str(problem))}, set())
        middle = len(parcels) // 2
        first, second = (self.send(part, before_each=before_each) for part in (parcels[:middle], parcels[middle:]))
        return Sent(first.refused | second.refused, first.not_taken | second.not_taken)

    def _send(self, parcels: Sequence[Parcel], before_each: Callable[[], None]) -> Sent:
        refused: dict[UUID, list[Reason]] = {}
        tags: dict[int, UUID] = {}
        not_taken: set[int] = set()
        try:
            producer = self._connected()
            with producer.batch(max_size=BATCH):
                for parcel in parcels:
                    before_each()
                    if why := self._put(producer, parcel):
                        refused[parcel.id] = why
                    elif self._confirms:
                        tags[self._confirms.tag] = parcel.id
                before_each()
            if self._confirms:
                not_taken = self._confirms.wait(before_each)
        except Exception as problem:
            foreseen = isinstance(problem, self._broker_errors())
            self.close()  # with what was written and is not known to have arrived
            if said := refusal(problem):
                raise _NotThisWay(said) from problem
            if not foreseen:
                raise
            raise BrokerAway(str(problem) or repr(problem)) from problem
        return Sent(refused, {tags[tag] for tag in not_taken & tags.keys()})

    def close(self) -> None:
        """Let the connection go. Never raises."""
        producer, self._producer, self._confirms = self._producer, None, None
        self._declared.clear()
        if producer is not None:
            try:
                producer.__connection__.release()
            except Exception:
                logger.debug("schedules.broker_not_closed", exc_info=True)

    def _put(self, producer: Any, parcel: Parcel) -> list[Reason]:
        """Publish one; returns why it can never be, or nothing."""
        way = _way(parcel.row)
        why, believed = self._refusing.get(way, ("", 0.0))
        if time.monotonic() < believed:
            return _said(why)
        try:
            message = compose(parcel.row)
        except Unusable as problem:
            return problem.why
        options = {**message.options, "task_id": str(parcel.id), "producer": producer, "retry": False}
        options["headers"] = {**options["headers"], BEAT_HEADER: True, COPY_HEADER: str(uuid.uuid4())}
        task = self.app.tasks.get(message.task)
        if way in self._declared:
            options["declare"] = ()  # kombu would bind the queue anew for each message, to find that it is there
        try:
            if task:
                task.apply_async(tuple(message.args), message.kwargs, **options)
            else:
                self.app.send_task(message.task, message.args, message.kwargs, **options)
        except Exception as problem:  # one row must not stop the others
            if isinstance(problem, self._broker_errors()):
                raise
            if isinstance(problem, TypeError):
                return refused_arguments(message.task, problem).why
            logger.exception("schedule.refused", extra={"schedule": parcel.row.name})
            return _said(f"{type(problem).__name__}: {problem}")
        self._declared.add(way)
        return []

    def _connected(self) -> Any:
        if self._producer is None:
            connection = self.app.connection_for_write()
            # Quickly: whoever leads must renew its lease while the broker is away.
            connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0, timeout=1)
            producer = self.app.amqp.Producer(connection, auto_declare=False)
            channel = producer.channel
            awaits = getattr(getattr(channel, "connection", None), "confirm_publish", False)
            self._confirms = Confirms(channel) if awaits else None
            self._producer = producer
        return self._producer

    def _broker_errors(self) -> tuple[type[Exception], ...]:
        if self._producer is None:
            return (OperationalError, BatchPublishError, OSError)
        connection = self._producer.__connection__
        return (OperationalError, BatchPublishError, OSError, *connection.connection_errors, *connection.channel_errors)


def _said(text: str) -> list[Reason]:
    return [reason("words", text=text)]


def _way(row: Any) -> tuple[Any, ...]:
    return row.task, *(getattr(row, option) for option in ROUTING)


def refusal(problem: BaseException | None) -> str:
    """What the broker says against the address of a message; nothing when its own state is what is wrong."""
    while problem is not None:
        said = " ".join(str(problem).split())
        if isinstance(problem, AccessRefused | NotFound | PreconditionFailed | ResourceLocked):
            # A node of a cluster that is down answers so for the queues that it holds.
            return "" if "down or inaccessible" in said else said
        if "WRONGTYPE" in said:  # Redis has something else under the name of the queue
            return said
        problem = problem.__cause__ or problem.__context__
    return ""
