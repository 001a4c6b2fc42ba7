"""Letters that waited in the spool become rows, once, and the failure that PostgreSQL could not be told of is told."""

import itertools
import logging
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass

from django.db import DataError, IntegrityError, InterfaceError, OperationalError, transaction

from deadletters.capture import breaker, spooled
from deadletters.capture.capture import Outcome, store
from deadletters.capture.record import Record
from deadletters.capture.repair import repair
from deadletters.capture.spool import Spool, spool

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Drained:
    """What one drain did, in letters."""

    stored: int = 0
    # Were there already: a crash came between their commit and their removal from the spool.
    duplicates: int = 0
    # Torn, or refused by PostgreSQL: kept beside the spool.
    set_aside: int = 0


def drain() -> Drained:
    """Store all that waits. Safe to stop, to repeat and to run twice at once.

    Raises:
        SpoolError: the spool cannot be read.
        django.db.DatabaseError: PostgreSQL is away (again); what was not stored is still in the spool.
    """
    drained, source = Drained(), spool()
    with closing(source.batches()) as batches:
        for batch in batches:
            records = _records(source, itertools.filterfalse(spooled.is_one, batch), drained)
            try:
                spooled.store(filter(spooled.is_one, batch))
                _store_all(source, records, drained)
            except (OperationalError, InterfaceError):
                breaker.trip()
                raise
            breaker.close()
            for record in records:
                repair(record)
    if drained != Drained():
        facts = {"stored": drained.stored, "duplicates": drained.duplicates, "set_aside": drained.set_aside}
        logger.warning("dead_letter.spool_drained", extra=facts)
    return drained


def _records(source: Spool, batch: Iterable[bytes], drained: Drained) -> list[Record]:
    records = []
    for line in filter(bytes.strip, batch):
        try:
            records.append(Record.from_line(line))
        except ValueError as problem:
            source.set_aside(line, str(problem))
            drained.set_aside += 1
    # Every batch goes through the errors in the same order, or two drains at once would wait for each other for ever.
    return sorted(records, key=lambda record: str(record.row["fingerprint"]))


def _store_all(source: Spool, records: list[Record], drained: Drained) -> None:
    """Store a batch in one transaction; when PostgreSQL refuses one of its rows, each alone."""
    try:
        with transaction.atomic():
            outcomes = [store(record) for record in records]
    except (DataError, IntegrityError):
        for record in records:
            _store_alone(source, record, drained)
        return
    for outcome in outcomes:
        _count(drained, outcome)


def _store_alone(source: Spool, record: Record, drained: Drained) -> None:
    try:
        with transaction.atomic():
            _count(drained, store(record))
    except (DataError, IntegrityError) as problem:
        source.set_aside(record.to_line(), f"PostgreSQL refuses it: {problem}")
        drained.set_aside += 1


def _count(drained: Drained, outcome: Outcome) -> None:
    if outcome is Outcome.DUPLICATE:
        drained.duplicates += 1
    else:
        drained.stored += 1
