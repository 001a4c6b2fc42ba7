"""Where letters wait while PostgreSQL is away: a file a host, written to the disk before the message is acknowledged, or a Redis list.

A line is taken away only after its letter was committed, so a crash leaves it there, and what is stored twice is refused by the
letter's constraints.
"""

import fcntl
import logging
import os
import socket
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol, cast

import redis
from django.conf import settings

logger = logging.getLogger(__name__)

# What ends in this holds lines that will never become letters by themselves: torn by a crash, or refused by PostgreSQL.
SET_ASIDE = ".set-aside"
_LINES, _DRAINING = ".jsonl", ".draining"
_BATCH = 200  # letters a transaction
_KEY = "dead_letter_spool"
_LEASE = 60  # seconds for a batch: a drainer that was killed holds up the next one no longer
_SECONDS = 2  # longest wait for Redis: the worker's event loop waits


class SpoolError(Exception):
    """The spool does not take or give its lines: a full disk, a folder that may not be written, a Redis that is away."""


class Spool(Protocol):
    """Lines that wait. `place` says where, for people."""

    place: str

    def put(self, line: bytes) -> None:
        """Keep one line (JSON without a newline), durably.

        Raises:
            SpoolError: it is not kept.
        """

    def waiting(self) -> bool:
        """Whether lines wait."""

    def count(self) -> int:
        """How many lines wait."""

    def batches(self) -> Generator[list[bytes]]:
        """The waiting lines. Asking for the next batch says that the last one is stored; stopping before keeps it."""

    def set_aside(self, line: bytes, why: str) -> None:
        """Keep a line that is no letter where a person finds it."""

    def aside(self) -> int:
        """How many lines were set aside."""


def spool() -> Spool:
    """The spool that DEADLETTERS_SPOOL names."""
    where = str(settings.DEADLETTERS_SPOOL)
    return RedisSpool(where) if where.startswith(("redis://", "rediss://")) else FileSpool(Path(where))


class FileSpool:
    """JSON lines in a folder; each host appends to a file of its own, and any host may drain all of them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.place = folder, str(folder)

    def put(self, line: bytes) -> None:
        with _spool_errors(self.place):
            self._append(self.folder / f"{socket.gethostname()}{_LINES}", line)

    def waiting(self) -> bool:
        with _spool_errors(self.place):
            return bool(self._files(_LINES, _DRAINING))

    def count(self) -> int:
        return self._count(_LINES, _DRAINING)

    def batches(self) -> Generator[list[bytes]]:
        with _spool_errors(self.place):
            for path in self._files(_LINES):
                self._take(path)
        for path in self._files(_DRAINING):
            with _spool_errors(self.place), suppress(FileNotFoundError), path.open("rb") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    return  # another process drains it, and an end must not overtake its start
                if not _is_still(path, file.fileno()):
                    continue
                while batch := [line for _, line in zip(range(_BATCH), file, strict=False)]:
                    yield batch
                path.unlink(missing_ok=True)

    def set_aside(self, line: bytes, why: str) -> None:
        with _spool_errors(self.place):
            self._append(self.folder / f"{socket.gethostname()}{SET_ASIDE}", line.rstrip(b"\n"))
        logger.error("dead_letter.set_aside", extra={"spool": self.place, "why": why, "bytes": len(line)})

    def aside(self) -> int:
        return self._count(SET_ASIDE)

    def _count(self, *endings: str) -> int:
        lines = 0
        with _spool_errors(self.place):
            for path in self._files(*endings):
                # Gone: it was drained, or moved, meanwhile.
                with suppress(FileNotFoundError), path.open("rb") as file:
                    lines += sum(1 for _ in file)
        return lines

    def _files(self, *endings: str) -> list[Path]:
        try:
            return sorted(path for path in self.folder.iterdir() if path.suffix in endings)
        except FileNotFoundError:
            return []

    def _append(self, path: Path, line: bytes) -> None:
        if not self.folder.is_dir():
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        while True:
            file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
                if _is_still(path, file):
                    if _append_whole(file, line + b"\n"):
                        _fsync_folder(self.folder)
                    return
            finally:
                os.close(file)

    def _take(self, path: Path) -> None:
        """Move a file out of the way of its writers, who then begin a new one."""
        try:
            file = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            return  # another drainer was quicker
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            if _is_still(path, file):
                path.rename(path.with_suffix(f".{time.time_ns()}{_DRAINING}"))
        finally:
            os.close(file)


class RedisSpool:
    """A Redis list. As durable as that Redis writes its log; of no use when it is the broker and away together with PostgreSQL."""

    def __init__(self, url: str) -> None:
        self._url, self.place = url, f"Redis list {_KEY}"

    def put(self, line: bytes) -> None:
        with self._redis() as client:
            client.rpush(_KEY, line)

    def waiting(self) -> bool:
        with self._redis() as client:
            return bool(client.exists(_KEY))

    def count(self) -> int:
        with self._redis() as client:
            return int(client.llen(_KEY))

    def batches(self) -> Generator[list[bytes]]:
        with self._redis() as client:
            lease = client.lock(f"{_KEY}{_DRAINING}", timeout=_LEASE)
            if not lease.acquire(blocking=False):
                return  # another process drains it, and an end must not overtake its start
            try:
                while lines := cast("list[bytes]", client.lrange(_KEY, 0, _BATCH - 1)):
                    yield [line + b"\n" for line in lines]
                    lease.reacquire()
                    with client.pipeline() as pipe:
                        for line in lines:  # by its value, for this process may have been stopped beyond its lease
                            pipe.lrem(_KEY, 1, line)  # type: ignore[arg-type]  # bytes are as good
                        pipe.execute()
            finally:
                with suppress(redis.RedisError):  # it ends by itself
                    lease.release()

    def set_aside(self, line: bytes, why: str) -> None:
        with self._redis() as client:
            client.rpush(f"{_KEY}{SET_ASIDE}", line.rstrip(b"\n"))
        logger.error("dead_letter.set_aside", extra={"spool": self.place, "why": why, "bytes": len(line)})

    def aside(self) -> int:
        with self._redis() as client:
            return int(client.llen(f"{_KEY}{SET_ASIDE}"))

    @contextmanager
    def _redis(self) -> Iterator["redis.Redis"]:
        with (
            _spool_errors(self.place),
            redis.Redis.from_url(self._url, socket_timeout=_SECONDS, socket_connect_timeout=_SECONDS) as client,
        ):
            yield client


def _append_whole(file: int, line: bytes) -> bool:
    """Append the whole line and have it on the disk, or leave the file as it was. Returns whether the file was empty before."""
    size = os.fstat(file).st_size
    if size and os.pread(file, 1, size - 1) != b"\n":
        line = b"\n" + line  # a crash tore the last line: the next must not go down with it
    try:
        written = os.write(file, line)
        if written < len(line):
            raise OSError(f"only {written} of {len(line)} bytes were written: is the disk full?")
        os.fsync(file)
    except OSError:
        os.ftruncate(file, size)
        raise
    return not size


def _fsync_folder(folder: Path) -> None:
    # Else a power loss forgets the name of a file whose bytes are safe.
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _is_still(path: Path, file: int) -> bool:
    """Whether `path` names the open file: until the lock was had, a drainer may have moved it."""
    try:
        return path.stat().st_ino == os.fstat(file).st_ino
    except FileNotFoundError:
        return False


@contextmanager
def _spool_errors(place: str) -> Iterator[None]:
    try:
        yield
    except (OSError, redis.RedisError) as problem:
        raise SpoolError(f"the spool {place} is not usable: {problem}") from problem
