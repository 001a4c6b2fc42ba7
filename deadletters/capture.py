"""One death becomes one dead letter, however often it is reported."""

import logging
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from typing import Any
from uuid import UUID

import psycopg
from django.db import DatabaseError, InterfaceError, OperationalError, connection, transaction
from kombu.utils.json import dumps, loads

from deadletters import breaker
from deadletters.announce import announce
from deadletters.envelope import Envelope, clean, replay_number, to_json
from deadletters.fingerprint import fingerprint
from deadletters.models import Cause, DeadLetter, Event, State, new_death_id
from deadletters.spool import spool

logger = logging.getLogger(__name__)

# A traceback beyond this is a recursion; its ends say all.
_TRACEBACK_LIMIT = 65_536
_MESSAGE_LIMIT = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Death:
    """A message that will not be tried again, as the worker saw it. Times are aware datetimes."""

    task_id: str
    task_name: str
    cause: Cause
    envelope: Envelope
    exception_type: str = ""
    exception_message: str = ""
    traceback: str = ""
    worker: str = ""
    received_at: datetime | None = None
    started_at: datetime | None = None
    died_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    # The idempotency key of this death.
    death_id: UUID = field(default_factory=new_death_id)

    @property
    def replay_number(self) -> int:
        """Which replay died; 0: the original message."""
        return replay_number(self.envelope.headers)


# Seconds to wait before a message that could not be buried goes back to its queue: it comes again at once.
DATABASE_PAUSE = 0.5


def described(exception: BaseException, kind: type[BaseException] | None = None) -> tuple[str, str]:
    """(type, message) of an exception; of `kind` when the object is a stand-in for one that could not travel between processes."""
    try:
        message = str(exception)
    except Exception as problem:  # noqa: BLE001  (a broken __str__ must not cost the letter)
        message = f"(its text cannot be had: {type(problem).__name__} in __str__)"
    return (kind or type(exception)).__name__, message


class Outcome(StrEnum):
    """What a capture did."""

    # The task's first death.
    NEW = "new"
    # A replay died: the same letter is open again.
    REOPENED = "reopened"
    # A copy or a second report of a death that is stored, or a death older than the newest replay.
    DUPLICATE = "duplicate"
    # PostgreSQL is away: the letter waits in the spool.
    SPOOLED = "spooled"


@dataclass(frozen=True, slots=True)
class Record:
    """A death as it is stored: the row of its letter, and what the first line of its trail says."""

    row: dict[str, Any]
    text: str
    death_id: UUID

    @classmethod
    def of(cls, death: Death) -> "Record":
        """What is stored of `death`."""
        row = _columns(death)
        text = f"{row['exception_type']}: {row['exception_message']}".strip(": ")[:500]
        return cls(row, text or str(death.cause.label), death.death_id)

    @classmethod
    def from_line(cls, line: bytes) -> "Record":
        """The record of a line of the spool.

        Raises:
            ValueError: the line is torn, or no record.
        """
        try:
            return cls(**loads(line))
        except (TypeError, ValueError) as problem:
            raise ValueError(f"no letter: {problem}") from problem

    def to_line(self) -> bytes:
        """One line of JSON; bytes, times and ids come back as they were."""
        return dumps({"row": self.row, "text": self.text, "death_id": self.death_id}).encode()


def capture(death: Death) -> Outcome:
    """Store `death` and have the listeners told, or spool it while PostgreSQL is away.

    Called on the worker's event loop: one statement on a connection that is kept, and none while PostgreSQL is known to be away.

    Raises:
        SpoolError: neither took it; the caller must not acknowledge the message then.
    """
    record = Record.of(death)
    facts = {"task_id": death.task_id, "task": death.task_name, "cause": death.cause.value}
    try:
        outcome = _stored(record)
    except DatabaseError as problem:
        spool().put(record.to_line())
        logger.error("dead_letter.spooled", extra={**facts, "why": str(problem)})
        return Outcome.SPOOLED
    logger.info(
        "dead_letter.duplicate" if outcome is Outcome.DUPLICATE else "dead_letter.captured",
        extra={**facts, "outcome": outcome.value},
    )
    return outcome


def _stored(record: Record) -> Outcome:
    if breaker.is_away():
        raise OperationalError("PostgreSQL did not answer a moment ago")
    kept = connection.connection
    try:
        return store(record)
    except (OperationalError, InterfaceError):
        if connection.in_atomic_block:
            raise
        connection.close()
        if kept is None or not kept.closed:
            breaker.trip()
            raise
    # The connection was as old as the last death: PostgreSQL may have been restarted since. What was committed unheard is a duplicate now.
    try:
        return store(record)
    except (OperationalError, InterfaceError):
        connection.close()
        breaker.trip()
        raise


def store(record: Record) -> Outcome:
    """Store one record, once, and have the listeners told after the commit.

    Raises:
        django.db.DatabaseError: PostgreSQL did not take it.
    """
    letter = _insert(record)
    if letter is None:
        return Outcome.DUPLICATE
    transaction.on_commit(partial(announce, letter[0]))
    return Outcome.NEW if letter[1] else Outcome.REOPENED


def _columns(death: Death) -> dict[str, Any]:
    """The row of a new letter, column by column."""
    envelope, headers = death.envelope, death.envelope.headers
    traceback = clean(death.traceback)
    if len(traceback) > _TRACEBACK_LIMIT:
        half = _TRACEBACK_LIMIT // 2
        traceback = (
            f"{traceback[:half]}\n… {len(traceback) - _TRACEBACK_LIMIT} characters left out …\n{traceback[-half:]}"
        )
    row: dict[str, Any] = {
        "task_id": clean(death.task_id, 255),
        "task_name": clean(death.task_name, 255),
        "state": State.OPEN.value,
        "cause": death.cause.value,
        "exception_type": clean(death.exception_type, 255),
        "exception_message": clean(death.exception_message, _MESSAGE_LIMIT),
        "traceback": traceback,
        "worker": clean(death.worker, 255),
        "retries": _natural(headers.get("retries")),
        "received_at": death.received_at,
        "started_at": death.started_at,
        "died_at": death.died_at,
        "deaths": 1,
        "replay_number": death.replay_number,
        "headers": to_json(headers),
        "properties": to_json(envelope.properties),
        "body": envelope.body,
        "content_type": clean(envelope.content_type, 128),
        "content_encoding": clean(envelope.content_encoding, 64),
        "exchange": clean(envelope.exchange, 255),
        "routing_key": clean(envelope.routing_key, 255),
        "queue": clean(envelope.queue, 255),
        "priority": _natural(envelope.properties.get("priority"), missing=None),
        "root_id": _text(headers.get("root_id")),
        "parent_id": _text(headers.get("parent_id")),
        "group_id": _text(headers.get("group")),
    }
    row["fingerprint"] = fingerprint(
        task_name=row["task_name"],
        cause=row["cause"],
        exception_type=row["exception_type"],
        message=row["exception_message"],
        traceback=row["traceback"],
    )
    return row


# What a later death of the same task writes over; the envelope stays the first one's.
_RENEWED = (
    "state",
    "cause",
    "fingerprint",
    "exception_type",
    "exception_message",
    "traceback",
    "worker",
    "received_at",
    "started_at",
    "died_at",
)


def _insert(record: Record) -> tuple[int, bool] | None:
    """Insert or re-open in one statement; (letter id, whether it is new), or None for a duplicate.

    The constraints are the referee: `task_id` is unique, so of two reports one inserts; the other, finding the letter open, changes
    nothing. Only the replay that is under way may re-open a letter, so an older attempt's late copy cannot.
    """
    row = record.row
    table, events = DeadLetter._meta.db_table, Event._meta.db_table
    names, places = ", ".join(row), ", ".join(["%s"] * len(row))
    renewed = ", ".join(f"{name} = excluded.{name}" for name in _RENEWED)
    # S608: every name here is ours; all values are parameters.
    statement = f"""
        WITH letter AS (
            INSERT INTO {table} ({names}) VALUES ({places})
            ON CONFLICT (task_id) DO UPDATE SET {renewed}, deaths = {table}.deaths + 1
            WHERE {table}.state = 'replaying' AND {table}.replay_number = excluded.replay_number
            RETURNING id, deaths = 1 AS created
        ), event AS (
            INSERT INTO {events} (dead_letter_id, kind, at, replay_number, text, death_id)
            SELECT id, 'died', %s, %s, %s, %s FROM letter
        )
        SELECT id, created FROM letter
    """  # noqa: S608
    values = [*row.values(), row["died_at"], row["replay_number"], record.text, record.death_id]
    connection.ensure_connection()
    raw: psycopg.Connection[Any] = connection.connection
    # Past Django's cursor, which binds values in Python and asks for the connection's health first: planning this anew costs more than
    # running it, and a lost connection is noticed by the statement.
    with connection.wrap_database_errors, psycopg.Cursor(raw) as cursor:
        raw.prepare_threshold = 5  # Django turns prepared statements off; its own cursors never make any
        stored: tuple[int, bool] | None = cursor.execute(statement.encode(), values, prepare=True).fetchone()
    return stored


def _natural(value: object, missing: int | None = 0) -> int | None:
    return value if isinstance(value, int) and 0 <= value < 2**15 else missing


def _text(value: object) -> str:
    return clean(value, 255) if isinstance(value, str) else ""
