"""What the workers know: registered tasks and consumed queues, asked of them at most every few seconds and within bounded time."""

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from celery import current_app

logger = logging.getLogger(__name__)

# Workers answer in milliseconds; each question waits its whole time, for nobody knows how many will answer.
ANSWER_SECONDS = 0.6
FRESH_SECONDS = 15.0
CONNECT_SECONDS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """What the workers that answered said; `asked` False: nobody was asked, or nobody answered."""

    asked: bool = False
    tasks: frozenset[str] = frozenset()
    queues: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # queue -> workers that consume it


class Inspection:
    """The last answer. One thread of a process asks; others wait for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known, self._at = Cluster(), float("-inf")

    def fresh(self) -> bool:
        """Whether the last answer is young enough."""
        return time.monotonic() - self._at < FRESH_SECONDS

    def cluster(self) -> Cluster:
        """What the workers know, at most FRESH_SECONDS old; takes two seconds at most, and up to five when the broker is away."""
        with self._lock:
            if not self.fresh():
                self._known, self._at = _ask(), time.monotonic()
            return self._known

    def forget(self) -> None:
        """Ask again at the next look."""
        self._at = float("-inf")


inspection = Inspection()


def _ask() -> Cluster:
    options: dict[str, Any] = {}
    if str(current_app.conf.broker_url or "").startswith("redis"):
        options = {"socket_connect_timeout": CONNECT_SECONDS, "socket_timeout": CONNECT_SECONDS + ANSWER_SECONDS}
    try:
        with current_app.connection_for_write(connect_timeout=CONNECT_SECONDS, transport_options=options) as connection:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=CONNECT_SECONDS)
            inspect = current_app.control.inspect(timeout=ANSWER_SECONDS, connection=connection)
            registered: dict[str, list[str]] = inspect.registered() or {}
            consumed: Any = inspect.active_queues() or {} if registered else {}
    except Exception as problem:  # noqa: BLE001  (each transport has errors of its own; nobody waits for an answer that does not come)
        logger.warning("broker.away", extra={"reason": type(problem).__name__})
        return Cluster()
    queues: dict[str, tuple[str, ...]] = {}
    for worker, its in consumed.items():
        for queue in its:
            queues[queue["name"]] = (*queues.get(queue["name"], ()), worker)
    # A worker says `name [rate_limit=…]` when it is told to show attributes.
    names = frozenset(name.split(" ", 1)[0] for its in registered.values() for name in its)
    return Cluster(asked=bool(registered), tasks=names, queues=queues)
