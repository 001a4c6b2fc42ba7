"""What the workers know: registered tasks and consumed queues, asked of them at most every few seconds and within bounded time."""

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from celery import current_app

logger = logging.getLogger(__name__)

# Workers answer in milliseconds; each question waits its whole time, for nobody knows how many will answer.
ANSWER_SECONDS = 0.6
FRESH_SECONDS = 15.0
# A worker that does not answer this once is busy rather than gone: what it last said holds for so long.
REMEMBERED_SECONDS = 300.0
CONNECT_SECONDS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """What the workers say; `asked` False: nobody was asked, or nobody answered."""

    asked: bool = False
    tasks: frozenset[str] = frozenset()
    queues: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # queue -> workers that consume it


class Answer(NamedTuple):
    """What one worker said, and when (`time.monotonic`)."""

    at: float
    tasks: frozenset[str]
    queues: tuple[str, ...]


class Inspection:
    """The last answers. One thread of a process asks; others wait for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._answers: dict[str, Answer] = {}
        self._known, self._at = Cluster(), float("-inf")

    def fresh(self) -> bool:
        """Whether the last answer is young enough."""
        return time.monotonic() - self._at < FRESH_SECONDS

    def cluster(self) -> Cluster:
        """What the workers know, at most FRESH_SECONDS old; takes two seconds at most, and up to five when the broker is away."""
        with self._lock:
            if not self.fresh():
                answers = _ask()
                self._at = time.monotonic()
                remembered = {n: one for n, one in self._answers.items() if self._at - one.at < REMEMBERED_SECONDS}
                self._answers = remembered | answers
                self._known = _united(self._answers) if answers else Cluster()
            return self._known

    def forget(self) -> None:
        """Remember nobody, and ask again at the next look."""
        self._answers, self._at = {}, float("-inf")


inspection = Inspection()


def _united(answers: Mapping[str, Answer]) -> Cluster:
    queues: dict[str, tuple[str, ...]] = {}
    for worker, its in answers.items():
        for queue in its.queues:
            queues[queue] = (*queues.get(queue, ()), worker)
    return Cluster(asked=True, tasks=frozenset().union(*(its.tasks for its in answers.values())), queues=queues)


def _ask() -> dict[str, Answer]:
    """The answers by worker; none when nobody answered in time."""
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
        return {}
    now = time.monotonic()
    return {
        # A worker says `name [rate_limit=…]` when it is told to show attributes.
        worker: Answer(
            now,
            frozenset(name.split(" ", 1)[0] for name in tasks),
            tuple(queue["name"] for queue in consumed.get(worker, ())),
        )
        for worker, tasks in registered.items()
    }
