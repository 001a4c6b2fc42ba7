"""What `up` keeps for this machine in var/environment.json: secrets it made once, and where its servers listen."""

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from config import environment
from config.embedded import PostgreSQL, Redis, free_port, new_password


class Busy(RuntimeError):
    """Something that `up` needs is in use; the message says what, and what to do."""


@contextmanager
def only_one() -> Iterator[None]:
    """Hold this folder's lock; the system lets go of it when the process ends, however it ends.

    Raises:
        Busy: another `up` holds it.
    """
    environment.VAR_DIR.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (environment.VAR_DIR / "up.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise Busy(
                f"`up` runs here already (process {lock.read().strip() or 'unknown'}). Stop it with Ctrl-C where it runs."
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def claim(host: str, port: int, *, what: str, option: str, variable: str) -> None:
    """Make sure that `host:port` is free to listen on.

    Raises:
        Busy: it is not; names the option and the variable that choose another.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as problem:
            raise Busy(
                f"{what} cannot listen on {host}:{port} ({problem.strerror}). "
                f"Choose another port with {option}, for example {option} {port + 1}, or with {variable}."
            ) from problem


def settle(web_address: str) -> tuple[list[PostgreSQL | Redis], bool]:
    """Decide what this machine's environment is and write it down: the servers that must run for it, and whether it is new.

    What is written once stays: secrets, passwords, a line that somebody added. Ports stay too, unless another program took one;
    SITE_URL follows `web_address`. A server whose address the real environment gives is not ours to start.
    """
    known = _load()
    values = dict(known)
    servers: list[PostgreSQL | Redis] = []
    if not environment.is_given("DATABASE_URL"):
        port, password = _address(values.get("DATABASE_URL", ""))
        postgresql = PostgreSQL(environment.VAR_DIR / "postgresql", port=port, password=password)
        if not postgresql.running() and _taken(postgresql.port):
            postgresql.port = free_port()
        servers.append(postgresql)
        values["DATABASE_URL"] = postgresql.url
    if not environment.is_given("BROKER_URL"):
        port, password = _address(values.get("BROKER_URL", ""))
        redis = Redis(environment.VAR_DIR / "redis", port=port, password=password)
        if not redis.running() and _taken(redis.port):
            redis.port = free_port()
        servers.append(redis)
        values["BROKER_URL"] = redis.url
    defaults = {
        "SECRET_KEY": new_password() + new_password(),
        "FLOWER_PASSWORD": new_password()[:16],
        "HTTPS": "false",
        "SAMPLES": "true",
        "FETCH_ALLOW_PRIVATE": "true",
        "LOG_FORMAT": "console",
    }
    values = {**defaults, **values, "SITE_URL": web_address}
    if values != known:
        _save(values)
    return servers, values != known


def _address(url: str) -> tuple[int, str]:
    parts = urlsplit(url)
    return parts.port or free_port(), parts.password or new_password()


def _taken(port: int) -> bool:
    try:
        claim("127.0.0.1", port, what="", option="", variable="")
    except Busy:
        return True
    return False


def _load() -> dict[str, Any]:
    path = environment.LOCAL_ENVIRONMENT
    return dict(json.loads(path.read_text())) if path.exists() else {}


def _save(values: dict[str, Any]) -> None:
    # Renamed into place: a command in another terminal never reads half a file.
    path = environment.LOCAL_ENVIRONMENT
    unfinished = path.with_suffix(".unfinished")
    unfinished.unlink(missing_ok=True)
    unfinished.touch(mode=0o600)
    unfinished.write_text(json.dumps(values, indent=2) + "\n")
    unfinished.replace(path)
