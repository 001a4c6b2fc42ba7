"""The worker's thread that drains the spool when PostgreSQL is back, without a restart."""

import logging
import threading
from typing import Any

from celery import signals
from django.db import DatabaseError, connection

from deadletters.capture import breaker
from deadletters.capture.drain import drain
from deadletters.capture.spool import SpoolError, spool

logger = logging.getLogger(__name__)

# Often enough that the breaker never lets the event loop find out by itself that PostgreSQL is still away.
SECONDS = 2.0

_thread: threading.Thread | None = None


def start(**_: Any) -> None:
    """Begin to look after the spool, in a worker's main process."""
    global _thread  # noqa: PLW0603  (one thread a process)
    if _thread is None:
        _thread = threading.Thread(target=_run, name="dead-letter-drainer", daemon=True)
        _thread.start()


def look() -> None:
    """Ask PostgreSQL if it failed lately, and drain what waits.

    While lines wait only one that is stored says that it is back: the connection may be fine and what they write to locked.
    """
    if was_away := breaker.is_away():
        _ask()
    if spool().waiting():
        drain()
    elif was_away:
        breaker.close()


def connect() -> None:
    """Listen for the worker's start."""
    signals.worker_ready.connect(start, dispatch_uid="deadletters.capture.drainer")


def _run() -> None:
    breaker.hurry()
    pause = threading.Event()
    while not pause.wait(SECONDS):
        try:
            look()
        except (DatabaseError, SpoolError) as problem:
            logger.warning("dead_letter.spool_waits", extra={"why": str(problem)})
        except Exception:
            logger.exception("dead_letter.spool_not_drained")
        finally:
            connection.close()  # none is kept for the next outage


def _ask() -> None:
    try:
        connection.ensure_connection()
    except DatabaseError:
        breaker.trip()
        raise
