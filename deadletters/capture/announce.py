"""Tells listeners of a new letter without delaying the worker: a queue and one background thread a process."""

import contextlib
import logging
import queue
import threading
import time

from django.db import close_old_connections, connection

from deadletters.models import DeadLetter
from deadletters.signals import dead_letter_opened

logger = logging.getLogger(__name__)

# In a storm listeners fall behind by minutes; beyond this they miss letters (the list has them all), the worker never waits.
_BACKLOG = 10_000

# Seconds in which letters gather, and how many are read at once: a storm's letters cost one query together, not one each.
_GATHER, _TOGETHER = 0.1, 100
# Seconds without a death after which the connection is given back.
_IDLE = 5

_letters: queue.Queue[int] = queue.Queue(_BACKLOG)
# How many nobody was told of yet. Not the queue's own count: gevent's has none.
_untold, _told = 0, threading.Condition()
_lock = threading.Lock()
_thread: threading.Thread | None = None


def announce(letter_id: int) -> None:
    """Have the listeners told of this letter soon. Returns at once and never raises."""
    try:
        _letters.put_nowait(letter_id)
    except queue.Full:
        logger.warning("dead_letter.not_announced", extra={"letter": letter_id, "backlog": _BACKLOG})
        return
    _count(1)
    _ensure_thread()


def flush(timeout: float) -> None:
    """Wait at most `timeout` seconds until the listeners have been told of everything."""
    with _told:
        _told.wait_for(lambda: not _untold, timeout)


def _count(letters: int) -> None:
    global _untold  # noqa: PLW0603  (as the queue is)
    with _told:
        _untold += letters
        _told.notify_all()


def _ensure_thread() -> None:
    global _thread  # noqa: PLW0603  (one thread a process; a forked child starts without the parent's)
    with _lock:
        if _thread is None or not _thread.is_alive():
            _thread = threading.Thread(target=_run, name="dead-letter-announcer", daemon=True)
            _thread.start()


def _run() -> None:
    while True:
        try:
            ids = [_letters.get(timeout=_IDLE)]
        except queue.Empty:
            connection.close()  # deaths are rare: no connection waits for the next one
            ids = [_letters.get()]
        time.sleep(_GATHER)
        with contextlib.suppress(queue.Empty):
            while len(ids) < _TOGETHER:
                ids.append(_letters.get_nowait())
        try:
            close_old_connections()
            for letter in DeadLetter.objects.filter(pk__in=ids).order_by("pk"):  # pruned meanwhile: none
                _tell(letter)
        except Exception:
            logger.exception("dead_letter.not_announced", extra={"letters": ids})
        finally:
            _count(-len(ids))


def _tell(letter: DeadLetter) -> None:
    for receiver, answer in dead_letter_opened.send_robust(sender=DeadLetter, dead_letter=letter):
        if isinstance(answer, Exception):
            logger.error(
                "dead_letter.listener_failed", extra={"receiver": repr(receiver), "letter": letter.pk}, exc_info=answer
            )
