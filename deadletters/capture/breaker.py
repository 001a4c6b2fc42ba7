"""Whether PostgreSQL is worth asking. The worker's event loop must not wait for one that is away at each death."""

import os
import threading
import time
from typing import Any

import psycopg
from celery import signals
from django.db.backends.signals import connection_created

# How long a failure keeps everybody from asking. The drainer asks more often than that, in its own thread, and says what it finds,
# so while it runs the event loop never waits for a connection.
SECONDS = 10.0

# Longest statement of a worker's event loop, in seconds: a lock that a migration holds must not cost it its broker.
STATEMENT_SECONDS = 5
# Longest wait for a server that does not even end its own statements: stopped, swapping, its disk gone.
_HUNG_SECONDS = STATEMENT_SECONDS + 2

_away_until = 0.0
_loop: tuple[int, int] | None = None  # process and thread of the event loop; children inherit it and are not it
_thread = threading.local()


def is_away() -> bool:
    """Whether PostgreSQL failed within the last seconds and has not been seen since."""
    return time.monotonic() < _away_until


def trip() -> None:
    """PostgreSQL did not answer."""
    global _away_until  # noqa: PLW0603  (one server, one memory of it a process)
    _away_until = time.monotonic() + SECONDS


def close() -> None:
    """PostgreSQL answered."""
    global _away_until  # noqa: PLW0603
    _away_until = 0.0


def connect() -> None:
    """Bound what a worker's event loop asks of PostgreSQL, from the worker's start on."""
    signals.worker_init.connect(_remember_loop, dispatch_uid="deadletters.capture.breaker")
    connection_created.connect(_bound, dispatch_uid="deadletters.capture.breaker")


def on_event_loop() -> bool:
    """Whether the caller is a worker's event loop."""
    return _loop == (os.getpid(), threading.get_ident())


def hurry() -> None:
    """The calling thread's statements are bounded like the event loop's: others rely on its going on."""
    _thread.hurries = True


def _remember_loop(**_: Any) -> None:
    global _loop  # noqa: PLW0603
    _loop = (os.getpid(), threading.get_ident())


def _bound(connection: Any, **_: Any) -> None:
    if connection.vendor != "postgresql" or not (on_event_loop() or getattr(_thread, "hurries", False)):
        return
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('statement_timeout', %s, false)", [f"{STATEMENT_SECONDS}s"])
    raw, wait = connection.connection, connection.connection.wait

    def wait_a_while(generator: Any, *_args: Any, **_kwargs: Any) -> Any:
        begun = time.monotonic()
        try:
            return wait(generator, timeout=_HUNG_SECONDS)
        except psycopg.OperationalError:
            if time.monotonic() - begun >= _HUNG_SECONDS:
                trip()
                raw.pgconn.finish()  # the answer may still come, to the next statement
            raise

    raw.wait = wait_a_while
