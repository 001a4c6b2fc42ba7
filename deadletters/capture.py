"""One death becomes one dead letter, however often it is reported."""

import logging
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from django.db import close_old_connections, connection

from deadletters.announce import announce
from deadletters.envelope import Envelope, clean, replay_number, to_json
from deadletters.fingerprint import fingerprint
from deadletters.models import Cause, DeadLetter, Event, State, new_death_id

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


def capture(death: Death) -> Outcome:
    """Store `death` and have the listeners told. Called on the worker's event loop: one statement on a connection that is kept.

    Raises:
        django.db.DatabaseError: PostgreSQL did not take it; the caller must not acknowledge the message then.
    """
    if not connection.in_atomic_block:
        close_old_connections()  # a worker's main process has no request that would notice a dead connection
    letter = _insert(death)
    outcome = Outcome.DUPLICATE if letter is None else Outcome.NEW if letter[1] else Outcome.REOPENED
    logger.info(
        "dead_letter.captured" if letter else "dead_letter.duplicate",
        extra={"task_id": death.task_id, "task": death.task_name, "cause": death.cause.value, "outcome": outcome.value},
    )
    if letter:
        announce(letter[0])
    return outcome


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


# What a later death of the same task leaves. The envelope becomes the later one's: a task that replaced itself died as another.
_KEPT = {"task_id", "deaths", "replay_number"}


def _insert(death: Death) -> tuple[int, bool] | None:
    """Insert or re-open in one statement; (letter id, whether it is new), or None for a duplicate.

    The constraints are the referee: `task_id` is unique, so of two reports one inserts; the other, finding the letter open, changes
    nothing. Only the replay that is under way may re-open a letter, so an older attempt's late copy cannot.
    """
    row = _columns(death)
    table, events = DeadLetter._meta.db_table, Event._meta.db_table
    names, places = ", ".join(row), ", ".join(["%s"] * len(row))
    renewed = ", ".join(f"{name} = excluded.{name}" for name in row if name not in _KEPT)
    text = f"{row['exception_type']}: {row['exception_message']}".strip(": ")[:500] or str(death.cause.label)
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
    with connection.cursor() as cursor:
        cursor.execute(statement, [*row.values(), death.died_at, death.replay_number, text, death.death_id])
        stored: tuple[int, bool] | None = cursor.fetchone()
        return stored


def _natural(value: object, missing: int | None = 0) -> int | None:
    return value if isinstance(value, int) and 0 <= value < 2**15 else missing


def _text(value: object) -> str:
    return clean(value, 255) if isinstance(value, str) else ""
