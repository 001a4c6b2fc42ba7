"""Lines of the spool that are no letters: starts and ends of early-acknowledged tasks, for the ledger that PostgreSQL keeps."""

from base64 import b64decode, b64encode
from collections.abc import Iterable
from typing import Any
from uuid import UUID

from django.db import transaction
from kombu.utils.json import dumps, loads

from deadletters import workers
from deadletters.workers import EarlyStart

_START, _END = "early_start", "early_end"
_MARKS = tuple(f'{{"{mark}": '.encode() for mark in (_START, _END))


def start(key: int, worker_id: UUID, worker: str, record: bytes) -> bytes:
    """The line of a start; `record` is the packed death that it will have been."""
    return _line({_START: key, "worker_id": str(worker_id), "worker": worker, "record": b64encode(record).decode()})


def end(key: int) -> bytes:
    """The line of the end of the start with this key."""
    return _line({_END: key})


def is_one(line: bytes) -> bool:
    """Whether this is a whole line of this module."""
    return line.startswith(_MARKS) and line.rstrip().endswith(b"}")


def store(lines: Iterable[bytes]) -> None:
    """Bring the ledger up to date, in the order of the lines; any number of times.

    Raises:
        django.db.DatabaseError: PostgreSQL is away again; nothing is half done.
    """
    starts: dict[int, dict[str, Any]] = {}
    ends: list[int] = []
    for line in lines:
        entry = loads(line.decode())
        if _START in entry:
            starts[entry[_START]] = entry
        else:
            starts.pop(entry[_END], None)
            ends.append(entry[_END])  # in any case: PostgreSQL may have taken the start without being heard
    with transaction.atomic():
        EarlyStart.objects.filter(pk__in=ends).delete()
        for key, entry in starts.items():
            worker_id = UUID(entry["worker_id"])
            workers.heard_of(worker_id, entry["worker"])
            workers.begun(key, worker_id, b64decode(entry["record"]))


def _line(entry: dict[str, Any]) -> bytes:
    return dumps(entry).encode()
