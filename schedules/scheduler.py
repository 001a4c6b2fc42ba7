"""The beat scheduler: any number of beats run, one of them leads, and each due time of each schedule is claimed and sent once."""

import logging
import time
from typing import Any
from uuid import UUID

import psycopg
from celery.beat import Scheduler as CeleryScheduler
from django.db import DatabaseError, InterfaceError

from schedules import ledger, static
from schedules.checkup import Checkup
from schedules.election import HEARTBEAT, LEASE, Seat, elapsed
from schedules.firing import Firing
from schedules.plan import Plan
from schedules.publish import BATCH, BrokerAway, Parcel, Publisher
from schedules.reasons import plain, reason

logger = logging.getLogger(__name__)

# How often a stand-by asks for the lock, and how long after a failure the broker is asked again (seconds).
STANDBY = 0.25
BROKER_PAUSE = 0.5
# Claimed messages that are held in memory.
KEPT = 10_000
AWAY = (psycopg.OperationalError, psycopg.InterfaceError, DatabaseError, InterfaceError)


class Deposed(Exception):
    """The lease may have ended; nothing more is sent."""


class Scheduler(CeleryScheduler):
    """Set by `beat_scheduler = "schedules.scheduler:Scheduler"`. Celery's service calls `tick` for ever; the waiting is done in it."""

    def __init__(self, app: Any, *args: Any, **kwargs: Any) -> None:
        self.seat = Seat()
        self.plan = Plan(self.seat)
        self.publisher = Publisher(app)
        self.firing = Firing(self.seat, self.plan)
        self.checkup = Checkup(self.seat, self.plan)
        self._unsent: dict[UUID, Parcel] = {}
        self._more = False  # more is claimed and unsent than is in memory
        self._retry_at = 0.0
        self._broker_away = False  # and nothing more is claimed: at its return policies decide, as after any outage
        self._looked_at = 0.0
        self._away = False
        super().__init__(app, *args, **kwargs)

    def setup_schedule(self) -> None:
        """Nothing to do before this beat leads."""

    @property
    def info(self) -> str:
        """What Celery's banner says of it."""
        return f"       . leader -> a lock in PostgreSQL, lease {LEASE:g} s"

    def tick(self, *_args: Any, **_kwargs: Any) -> float:
        """One turn: lead, or stand by. Always 0: the waiting is done here, where a notification ends it."""
        try:
            if self.seat.leads or self._take_over():
                self._lead()
            else:
                time.sleep(STANDBY)
            self._report_back()
        except (*AWAY, Deposed) as problem:
            self._step_down(problem)
            time.sleep(STANDBY)
        except Exception as problem:
            # Nothing that is foreseen. The process stays, for what another beat may manage, or this one at its next try.
            logger.exception("schedules.failed")
            self._step_down(problem)
            time.sleep(HEARTBEAT)
        return 0.0

    def close(self) -> None:
        """Leave at once, so that another beat takes over."""
        self.seat.leave()
        self.publisher.close()

    def _take_over(self) -> bool:
        started = elapsed()
        if not self.seat.take():
            return False
        static.install(self.app)
        self.plan.load()
        self.checkup.note()
        self._unsent = self._claimed_before()
        self._retry_at = 0.0
        facts = {"beat": self.seat.name, "schedules": len(self.plan.items), "unsent": len(self._unsent)}
        logger.info("schedules.leads", extra={**facts, "seconds": round(elapsed() - started, 3)})
        return True

    def _lead(self) -> None:
        self.seat.renew()
        if told := self.seat.listen(0):
            self._hear(told)
        if self._more and not self._unsent:
            self._unsent = self._claimed_before()
        if self._unsent and elapsed() >= self._retry_at:
            self._publish(list(self._unsent.values())[:BATCH])
            self.checkup.note()
        now = self.seat.now()
        if elapsed() - self._looked_at >= HEARTBEAT:
            self._look_around()
        if not self._broker_away and (due := self.plan.take_due(now, BATCH)):
            self._publish(self.firing.fire(due, now))
            self.checkup.note()
            return
        wait = BROKER_PAUSE if self._unsent else HEARTBEAT
        if not self._broker_away:
            wait = min(wait, self.plan.wait(now))
        if told := self.seat.listen(wait):
            self._hear(told)

    def _hear(self, told: list[str]) -> None:
        """Somebody edited schedules."""
        ids: set[int] = set()
        for note in told:
            kind, _colon, rest = note.partition(":")
            if kind == "all":
                self.plan.load()
            elif kind == "task":
                ids.update(int(pk) for pk in rest.split(","))
            else:
                self.plan.forget_timing((kind, int(rest)))
        if ids:
            self.plan.reload(ids)
            self.checkup.check(ids)

    def _look_around(self) -> None:
        """Once a heartbeat: runs that wait for others, and a slice of all rows, whatever was or was not told."""
        self._looked_at = elapsed()
        if ledger.release(self.seat.connection):
            self._unsent |= self._claimed_before()
        self.checkup.slice()

    def _publish(self, parcels: list[Parcel]) -> None:
        if not parcels:
            return
        try:
            told = self.publisher.send(parcels, before_each=self._check_lease)
        except BrokerAway as problem:
            if not self._broker_away:
                logger.warning("schedules.broker_away", extra={"messages": len(parcels), "reason": str(problem)})
            self._broker_away = True
            self._unsent |= {parcel.id: parcel for parcel in parcels}
            self._retry_at = elapsed() + BROKER_PAUSE
            return
        self._broker_away = False
        refused = told.refused
        sent = [parcel for parcel in parcels if parcel.id not in refused and parcel.id not in told.not_taken]
        self.seat.connection.execute(ledger.SENT, ([parcel.id for parcel in sent],))
        if refused:
            ledger.refuse(self.seat.connection, refused)
        for parcel in parcels:
            self._unsent.pop(parcel.id, None)
            if parcel.id in told.not_taken:
                self._unsent[parcel.id] = parcel  # at the end, so that others have their turn
                continue
            facts = {"schedule": parcel.row.name, "task": parcel.row.task, "task_id": str(parcel.id)}
            if why := refused.get(parcel.id):
                self.plan.broken[parcel.row.id] = why
                logger.error("schedule.refused", extra={**facts, "reason": plain(why)})
            else:
                logger.info("schedule.sent", extra=facts)

        if told.not_taken:
            logger.warning("schedules.queue_full", extra={"messages": len(told.not_taken)})
            self._retry_at = elapsed() + BROKER_PAUSE

    def _check_lease(self) -> None:
        self.seat.renew()
        if not self.seat.trusted:
            raise Deposed("this process was stopped for longer than its lease")

    def _claimed_before(self) -> dict[UUID, Parcel]:
        """What was claimed and not sent, as far as the ledger knows: by a beat that died in between, or just now."""
        connection = self.seat.connection
        found = connection.execute(ledger.UNSENT, (KEPT,)).fetchall()
        self._more = len(found) == KEPT
        rows = {row.id: row for row in ledger.rows(connection, {pk for _id, pk, _due in found}, also_off=True)}
        gone = [claimed for claimed, pk, _due in found if pk not in rows]
        if gone:
            ledger.refuse(connection, {claimed: [reason("deleted")] for claimed in gone})
        return {claimed: Parcel(claimed, rows[pk]) for claimed, pk, _due in found if pk in rows}

    def _step_down(self, problem: Exception) -> None:
        led = self.seat.leads
        self.seat.leave()
        self._unsent, self._broker_away = {}, False
        line = (str(problem).strip().splitlines() or [repr(problem)])[0]
        if led:
            logger.warning("schedules.stepped_down", extra={"beat": self.seat.name, "reason": line})
        elif not self._away:
            logger.warning("schedules.database_away", extra={"reason": line})
            self._away = True

    def _report_back(self) -> None:
        if self._away:
            logger.info("schedules.database_back")
        self._away = False
