"""The tasks that a worker runs after it acknowledged their messages: if it vanishes, this is all that is left of them.

Only tasks with `acks_late=False` pay for it: two statements each, or two lines in the spool while PostgreSQL is away.
"""

import logging
from collections.abc import Mapping
from dataclasses import fields
from datetime import datetime
from hashlib import blake2b
from typing import Any
from uuid import UUID

from django.db import Error, InterfaceError, OperationalError, close_old_connections, connection
from kombu.utils.json import dumps, loads

from deadletters import workers
from deadletters.capture import breaker, spooled
from deadletters.capture.poison import attempt_of
from deadletters.capture.record import Death
from deadletters.capture.spool import SpoolError, spool
from deadletters.envelope import COPY_HEADER, Envelope
from deadletters.models import Cause
from deadletters.secrets import seal
from deadletters.workers import EarlyStart

logger = logging.getLogger(__name__)


def open_entry(worker_id: UUID, death: Death) -> int | None:
    """Note that this worker begins a task; `death` is what it will have died of if nothing more is heard. Returns the entry's key.

    While PostgreSQL is away the entry waits in the spool, under a negative key. None when nobody took it: the task runs all the same,
    and only its worker's loss meanwhile would go unseen.
    """
    key = _key(death)
    if not breaker.is_away():
        _renew()
        try:
            workers.begun(key, worker_id, pack(death))
        except Error as problem:
            _note_absence(problem)
        else:
            return key
    try:
        spool().put(spooled.start(key, worker_id, death.worker, pack(death)))
    except SpoolError as problem:
        logger.error("worker.start_not_noted", extra={"task_id": death.task_id, "reason": str(problem)})
        return None
    return -key


def close_entry(key: int) -> None:
    """The task has ended, somehow. Never raises."""
    if key > 0 and not breaker.is_away():
        _renew()
        try:
            EarlyStart.objects.filter(pk=key).delete()
        except Error as problem:
            _note_absence(problem)
        else:
            return
    try:
        spool().put(spooled.end(abs(key)))  # behind its start, which may be there still
    except SpoolError as problem:
        logger.error("worker.end_not_noted", extra={"reason": str(problem)})


def close_of(task_id: str, headers: Mapping[str, Any] | None, retries: int | None, worker: str) -> None:
    """The same, said by the process that ran the task: its main process may be lost before it hears of the end. Never raises."""
    close_entry(_key_of(task_id, headers, retries, worker))


def _key(death: Death) -> int:
    headers = death.envelope.headers
    return _key_of(death.task_id, headers, headers.get("retries"), death.worker)


def _key_of(task_id: str, headers: Mapping[str, Any] | None, retries: int | None, worker: str) -> int:
    # A second copy of the same attempt may be dropped by the worker that runs the first (copies.py).
    parts = [task_id, attempt_of(headers, retries), (headers or {}).get(COPY_HEADER), worker]
    return int.from_bytes(blake2b(repr(parts).encode(), digest_size=8).digest()) >> 1


def _note_absence(problem: Error) -> None:
    if isinstance(problem, (OperationalError, InterfaceError)):
        breaker.trip()  # the event loop does not ask again for a while


def pack(death: Death) -> bytes:
    """A death as bytes, with its envelope; sealed when there is a key, behind the key's id."""
    known = {item.name: getattr(death, item.name) for item in fields(Death)}
    envelope = {item.name: getattr(death.envelope, item.name) for item in fields(Envelope)}
    record = dumps({**known, "cause": death.cause.value, "envelope": envelope}).encode()
    if not seal.newest():
        return record
    sealed, key = seal.seal(record)
    return key.encode() + b":" + sealed


def unpack(record: bytes) -> Death:
    """The death that was packed.

    Raises:
        CannotOpen: it was sealed with a key that is not here any more.
    """
    if not record.startswith(b"{"):
        key, _, sealed = record.partition(b":")
        record = seal.unseal(sealed, key.decode())
    known = loads(record.decode())
    known.update(cause=Cause(known["cause"]), envelope=Envelope(**known["envelope"]))
    for name in ("received_at", "started_at", "died_at"):
        known[name] = datetime.fromisoformat(known[name]) if isinstance(known[name], str) else known[name]
    return Death(**known)


def _renew() -> None:
    # The worker's main process has no request that would notice a dead connection.
    if not connection.in_atomic_block:
        close_old_connections()
