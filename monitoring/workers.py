"""Who is alive and what runs there, asked of the workers through the broker. Questions only: nothing here changes what a worker does."""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from celery import current_app

from monitoring.broker import ANSWER_SECONDS, BrokerAway, connected

# Polls of many people within this time share one question.
FRESH_SECONDS = 5.0
# A worker that was stopped on purpose is not mourned for longer than this.
FORGET_SECONDS = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A task that a worker runs now."""

    task_id: str
    task_name: str
    worker: str
    since: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One worker that answered. `slots`: how many tasks it runs at the same time; None is what it did not tell."""

    name: str
    queues: tuple[str, ...] = ()
    running: tuple[Running, ...] = ()
    slots: int | None = None
    finished: int | None = None
    started_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Workers:
    """Names of the workers that answered the last ping, and of those that used to (with seconds of silence)."""

    alive: tuple[str, ...]
    silent: tuple[tuple[str, float], ...]
    members: tuple[Member, ...] = ()

    @property
    def running(self) -> list[Running]:
        """What all of them run, the longest first."""
        every = [task for member in self.members for task in member.running]
        return sorted(every, key=lambda task: task.since or datetime.now(UTC))

    def consumers(self, queue: str) -> int:
        """How many of them consume from a queue."""
        return sum(queue in member.queues for member in self.members)


class Pings:
    """The last answers, at most FRESH_SECONDS old. One thread of a process asks; the others take what is there."""

    def __init__(self) -> None:
        self._seen: dict[str, float] = {}  # worker -> monotonic time of its last answer
        self._members: tuple[Member, ...] = ()
        self._asked_at = float("-inf")
        self._away = False
        self._lock = threading.Lock()

    def workers(self) -> Workers:
        """Who is alive.

        Raises:
            BrokerAway: nobody could be asked.
        """
        stale = time.monotonic() - self._asked_at > FRESH_SECONDS
        # The first ever caller waits for the answer; later ones that come while somebody asks see the old one.
        if stale and self._lock.acquire(blocking=self._asked_at == float("-inf")):
            try:
                self._ask()
            finally:
                self._lock.release()
        if self._away:
            raise BrokerAway
        now, seen = self._asked_at, dict(self._seen)
        return Workers(
            alive=tuple(sorted(name for name, at in seen.items() if at >= now)),
            silent=tuple(sorted((name, now - at) for name, at in seen.items() if at < now)),
            members=self._members,
        )

    def forget(self) -> None:
        """Ask again at the next look."""
        self._seen, self._asked_at = {}, float("-inf")

    def stale(self) -> None:
        """Ask again at the next look, and remember who was there."""
        self._asked_at = min(self._asked_at, time.monotonic() - FRESH_SECONDS - 1)

    def _ask(self) -> None:
        if time.monotonic() - self._asked_at <= FRESH_SECONDS:
            return  # another thread asked while this one waited for the lock
        try:
            self._members = members()
            self._away = False
        except BrokerAway:
            self._members, self._away = (), True
        now = time.monotonic()
        kept = {name: at for name, at in self._seen.items() if now - at < FORGET_SECONDS}
        self._seen, self._asked_at = {**kept, **{member.name: now for member in self._members}}, now


pings = Pings()


def alive() -> Workers:
    """Who answered the last ping, at most FRESH_SECONDS ago.

    Raises:
        BrokerAway: nobody could be asked.
    """
    return pings.workers()


def members() -> tuple[Member, ...]:
    """Ask all workers: one call of ANSWER_SECONDS for who is there, then questions that end when everybody has answered.

    Raises:
        BrokerAway: nobody could be asked.
    """
    with connected() as connection:
        inspect = current_app.control.inspect
        names = sorted(inspect(timeout=ANSWER_SECONDS, connection=connection).ping() or {})
        told: dict[str, Mapping[str, Any]] = {}
        asked = names
        for question in ("active", "active_queues", "stats"):
            if asked:
                those = inspect(asked, timeout=ANSWER_SECONDS, connection=connection, limit=len(asked))
                told[question] = getattr(those, question)() or {}
                asked = [name for name in asked if name in told[question]]  # who was late once is not waited for again
    return tuple(_member(name, told) for name in names)


def _member(name: str, told: Mapping[str, Mapping[str, Any]]) -> Member:
    stats = told.get("stats", {}).get(name) or {}
    uptime = stats.get("uptime")
    return Member(
        name=name,
        queues=tuple(sorted(queue["name"] for queue in _listed(told, "active_queues", name))),
        running=tuple(_running(task, name) for task in _listed(told, "active", name)),
        slots=(stats.get("pool") or {}).get("max-concurrency"),
        finished=sum(stats["total"].values()) if "total" in stats else None,
        started_at=datetime.now(UTC) - timedelta(seconds=uptime) if uptime is not None else None,
    )


def _listed(told: Mapping[str, Mapping[str, Any]], question: str, name: str) -> list[dict[str, Any]]:
    """What it answered; nothing where it failed to: then the answer is {"error": …}."""
    answer = told.get(question, {}).get(name)
    return answer if isinstance(answer, list) else []


def _running(task: Mapping[str, Any], worker: str) -> Running:
    began = task.get("time_start")
    return Running(
        task_id=str(task.get("id", "")),
        task_name=str(task.get("name", "")),
        worker=worker,
        since=datetime.fromtimestamp(began, UTC) if began else None,
    )
