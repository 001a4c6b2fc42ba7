"""One death becomes one dead letter, however often it is reported."""

import logging
from enum import StrEnum
from functools import partial
from typing import Any

import psycopg
from django.db import Error, InterfaceError, OperationalError, connection, transaction

from deadletters.capture import breaker, keep
from deadletters.capture.announce import announce
from deadletters.capture.record import Death, Record
from deadletters.capture.spool import spool
from deadletters.models import DeadLetter, ErrorGroup, Event

logger = logging.getLogger(__name__)

# Seconds to wait before a message that could not be buried goes back to its queue: it comes again at once.
DATABASE_PAUSE = 0.5


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
    except Error as problem:
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
        was_lost = kept is not None and kept.closed  # else its time was over: no lock is waited for twice
        connection.close()
        if not was_lost or breaker.is_away():
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
        django.db.Error: PostgreSQL did not take it.
    """
    letter = _insert(record)
    keep.recount(record.row["fingerprint"])
    if letter is None:
        return Outcome.DUPLICATE
    transaction.on_commit(partial(announce, letter[0]))
    return Outcome.NEW if letter[1] else Outcome.REOPENED


# What a later death of the same task leaves. The envelope becomes the later one's: a task that replaced itself died as another.
_KEPT = {"task_id", "deaths", "replay_number"}


_OF_ERROR = "fingerprint, task_name, exception_type, cause"
# A spooled death may be older than the newest that is known. The next death of a bug that was resolved says that it was not.
_RENEWED_ERROR = """
    task_name = excluded.task_name, exception_type = excluded.exception_type, cause = excluded.cause, message = excluded.message,
    first_seen = LEAST(error.first_seen, excluded.first_seen), last_seen = GREATEST(error.last_seen, excluded.last_seen),
    deaths = error.deaths + 1,
    state = CASE error.state WHEN 'resolved' THEN 'regressed' WHEN 'discarded' THEN 'open' ELSE error.state END,
    changed_at = CASE WHEN error.state IN ('resolved', 'discarded') THEN excluded.last_seen ELSE error.changed_at END
"""


def _insert(record: Record) -> tuple[int, bool] | None:
    """Insert or re-open in one statement; (letter id, whether it is new), or None for a duplicate.

    The constraints are the referee: `task_id` is unique, so of two reports one inserts; the other, finding the letter open, changes
    nothing. Only the replay that is under way may re-open a letter, so an older attempt's late copy cannot.
    """
    row = record.row
    table, events, errors = DeadLetter._meta.db_table, Event._meta.db_table, ErrorGroup._meta.db_table
    names, places = ", ".join(row), ", ".join(["%s"] * len(row))
    renewed = ", ".join(f"{name} = excluded.{name}" for name in row if name not in _KEPT)
    # S608: every name here is ours; all values are parameters.
    statement = f"""
        WITH letter AS (
            INSERT INTO {table} ({names}) VALUES ({places})
            ON CONFLICT (task_id) DO UPDATE SET {renewed}, deaths = {table}.deaths + 1
            WHERE {table}.state = 'replaying' AND {table}.replay_number = excluded.replay_number
            RETURNING id, deaths = 1 AS created, {_OF_ERROR}, exception_message, died_at
        ), event AS (
            INSERT INTO {events} (dead_letter_id, kind, at, replay_number, text, death_id)
            SELECT id, 'died', %s, %s, %s, %s FROM letter
        ), error AS (
            INSERT INTO {errors} AS error ({_OF_ERROR}, message, state, note, first_seen, last_seen, deaths)
            SELECT {_OF_ERROR}, left(exception_message, 300), 'open', '', died_at, died_at, 1 FROM letter
            ON CONFLICT (fingerprint) DO UPDATE SET {_RENEWED_ERROR}
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
