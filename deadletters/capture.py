"""One death becomes one dead letter, however often it is reported."""

import logging
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from django.db import close_old_connections, connection

from deadletters import keep
from deadletters.announce import announce
from deadletters.envelope import Arguments, Envelope, clean, replay_number, to_json
from deadletters.fingerprint import fingerprint
from deadletters.models import Cause, DeadLetter, Event, State, new_death_id
from deadletters.redact import redactor
from deadletters.redact_text import hide

logger = logging.getLogger(__name__)

# A traceback beyond this is a recursion; its ends say all.
_TRACEBACK_LIMIT = 65_536
_MESSAGE_LIMIT = 10_000
# Arguments of more bytes are not looked through for the secrets that an error may repeat.
_BODY_LIMIT = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Death:
    """A message that will not be tried again, as the worker saw it. Times are aware datetimes."""

    task_id: str
    task_name: str
    cause: Cause
    envelope: Envelope
    exception_type: str = ""
    # Not masked yet, so neither is in its repr.
    exception_message: str = field(default="", repr=False)
    traceback: str = field(default="", repr=False)
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
    row = keep.limited(_columns(death))
    letter = _insert(row, death)
    keep.recount(row["fingerprint"])
    outcome = Outcome.DUPLICATE if letter is None else Outcome.NEW if letter[1] else Outcome.REOPENED
    logger.info(
        "dead_letter.captured" if letter else "dead_letter.duplicate",
        extra={"task_id": death.task_id, "task": death.task_name, "cause": death.cause.value, "outcome": outcome.value},
    )
    if letter:
        announce(letter[0])
    return outcome


def _columns(death: Death) -> dict[str, Any]:
    """The row of a new letter, column by column: its texts masked, its payload sealed if there is a key. Asks no database."""
    envelope, headers = death.envelope, death.envelope.headers
    arguments = envelope.arguments() if len(envelope.body) <= _BODY_LIMIT else None
    message, traceback = _texts(death, arguments)
    rules = redactor().rules_of(death.task_name, arguments.embed if arguments else None)
    row: dict[str, Any] = {
        "task_id": clean(death.task_id, 255),
        "task_name": clean(death.task_name, 255),
        "state": State.OPEN.value,
        "cause": death.cause.value,
        "exception_type": clean(death.exception_type, 255),
        "exception_message": message,
        "traceback": traceback,
        "worker": clean(death.worker, 255),
        "retries": _natural(headers.get("retries")),
        "received_at": death.received_at,
        "started_at": death.started_at,
        "died_at": death.died_at,
        "deaths": 1,
        "replay_number": death.replay_number,
        "content_type": clean(envelope.content_type, 128),
        "content_encoding": clean(envelope.content_encoding, 64),
        "exchange": clean(envelope.exchange, 255),
        "routing_key": clean(envelope.routing_key, 255),
        "queue": clean(envelope.queue, 255),
        "priority": _natural(envelope.properties.get("priority"), missing=None),
        "root_id": _text(headers.get("root_id")),
        "parent_id": _text(headers.get("parent_id")),
        "group_id": _text(headers.get("group")),
        "traceback_kept": True,
        "payload_kept": True,
        "secret_arguments": to_json(rules),
        **envelope.columns(),
    }
    row["fingerprint"] = fingerprint(
        task_name=row["task_name"],
        cause=row["cause"],
        exception_type=row["exception_type"],
        message=message,
        traceback=traceback,
    )
    return row


def _texts(death: Death, arguments: Arguments | None) -> tuple[str, str]:
    """(message, traceback) as people may see them: stored like that, they are safe in every list, search and alert."""
    mask, secrets = redactor(), set[str]()
    if arguments:
        mask.arguments(death.task_name, arguments.args, arguments.kwargs, secrets)
    # Masked before it is cut to its length, or half a secret could be left at the end; cut once before that, for it may be megabytes.
    message = hide(mask.text(clean(death.exception_message, 2 * _MESSAGE_LIMIT)), secrets)[:_MESSAGE_LIMIT]
    return message, hide(mask.text(_shortened(clean(death.traceback))), secrets)


def _shortened(traceback: str) -> str:
    """Its beginning and its end, whole lines of both."""
    if len(traceback) <= _TRACEBACK_LIMIT:
        return traceback
    half = _TRACEBACK_LIMIT // 2
    begins = traceback[:half].rpartition("\n")[0] or traceback[:half]
    ends = traceback[-half:].partition("\n")[2] or traceback[-half:]
    return f"{begins}\n… {len(traceback) - len(begins) - len(ends)} characters left out …\n{ends}"


# What a later death of the same task writes over; the envelope stays the first one's.
_RENEWED = (
    "state",
    "cause",
    "fingerprint",
    "exception_type",
    "exception_message",
    "traceback",
    "traceback_kept",
    "worker",
    "received_at",
    "started_at",
    "died_at",
)


def _insert(row: dict[str, Any], death: Death) -> tuple[int, bool] | None:
    """Insert or re-open in one statement; (letter id, whether it is new), or None for a duplicate.

    The constraints are the referee: `task_id` is unique, so of two reports one inserts; the other, finding the letter open, changes
    nothing. Only the replay that is under way may re-open a letter, so an older attempt's late copy cannot.
    """
    table, events = DeadLetter._meta.db_table, Event._meta.db_table
    names, places = ", ".join(row), ", ".join(["%s"] * len(row))
    renewed = ", ".join(f"{name} = excluded.{name}" for name in _RENEWED)
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
