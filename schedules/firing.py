"""Claims what is due: one transaction a batch, on the connection that holds the lock."""

import logging
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import psycopg

from schedules import due, ledger
from schedules.decide import Rules, Situation, Verdict, decide
from schedules.election import Seat
from schedules.history import State
from schedules.message import Unusable
from schedules.plan import Item, Plan, delay, key_of, occurrence_id
from schedules.publish import Parcel
from schedules.reasons import reason

logger = logging.getLogger(__name__)

# Of more missed due times than this, only the newest are looked at one by one, unless a policy means to run more.
MOST = 1000
# Seconds after which one that could not be claimed is tried again.
AGAIN = 60.0


class Firing:
    """Turns due items into rows of the ledger and parcels to send."""

    def __init__(self, seat: Seat, plan: Plan) -> None:
        self.seat = seat
        self.plan = plan

    def fire(self, items: Sequence[Item], now: float) -> list[Parcel]:
        """Claim them. A row that breaks its batch is found by halving and put aside; the others are claimed."""
        try:
            return self._claim(items, now)
        except (psycopg.OperationalError, psycopg.InterfaceError):
            raise
        except Exception as problem:
            if (
                self.seat.is_lost
            ):  # PostgreSQL ended the session within the transaction, for which it has an error of another kind
                raise
            if len(items) == 1:
                logger.exception("schedule.put_aside", extra={"schedule_id": items[0].pk})
                self.plan.broken[items[0].pk] = [reason("words", text=f"{type(problem).__name__}: {problem}")]
                self.plan.put_off(items[0], now + AGAIN)
                return []
            middle = len(items) // 2
            return self.fire(items[:middle], now) + self.fire(items[middle:], now)

    def _claim(self, items: Sequence[Item], now: float) -> list[Parcel]:
        connection = self.seat.connection
        known = {item.pk: item for item in items}
        with connection.transaction():
            rows = {row.id: row for row in ledger.rows(connection, known)}
            # One that got another time a moment ago: the notification is on its way.
            edited = [pk for pk, row in rows.items() if key_of(row) != known[pk].key]
            rows = {pk: row for pk, row in rows.items() if pk not in edited and not self._paused(row, now)}
            resumed = [pk for pk, row in rows.items() if row.paused_until is not None]
            if resumed:
                connection.execute(ledger.RESUME, (resumed,))
            situations = ledger.situations(connection, rows.values())
            fired = self._verdicts(known, rows, situations, now)
            won = ledger.claim(connection, [(rows[pk], v) for pk, (vs, _last) in fired.items() for v in vs])
            self._advance(connection, known, rows, fired, now)
            for pk, situation in situations.items():
                if situation.failing:
                    ledger.pause(connection, pk, situation.failing)
        parcels = self._settle(known, rows, fired, won, now)
        if edited:
            self.plan.reload(edited)
        return parcels

    def _verdicts(
        self, known: dict[int, Item], rows: dict[int, Any], situations: dict[int, Situation], now: float
    ) -> dict[int, tuple[list[Verdict], float]]:
        """What becomes of each, and up to when it is settled."""
        times: dict[int, tuple[list[float], int]] = {}
        for pk, row in rows.items():
            self.seat.renew()  # a statement within the transaction: after an outage of weeks this takes its time
            times[pk] = self._times(known[pk], row, now)
        behind = [pk for pk, (_due, count) in times.items() if count > 1]
        newest = dict(self.seat.connection.execute(ledger.NEWEST, (behind,)).fetchall()) if behind else {}
        fired = {}
        for pk, (found, total) in times.items():
            due_times, count = found, total
            last = max(known[pk].anchor, due_times[-1] if due_times else float("-inf"))
            floor = newest.get(pk)
            if floor is not None and any(at <= floor for at in due_times):
                # A run that its row does not know of: that was held by somebody when it was written.
                due_times = [at for at in due_times if at > floor]
                count = len(due_times)
            # One that is ready waits for an earlier one that is not: that is nobody's lateness.
            ready = list(accumulate((at + delay(pk, at, rows[pk].jitter) for at in due_times), max))
            verdicts = decide(due_times, count, now, _rules(rows[pk]), situations.get(pk, Situation()), ready)
            fired[pk] = (verdicts, last)
        return fired

    def _times(self, item: Item, row: Any, now: float) -> tuple[list[float], int]:
        """The due times that count now, and how many there are in all."""
        timing = self.plan.timing(item.key)
        found, count = due.between(timing, item.anchor, now, limit=max(MOST, row.catch_up_limit or 0))
        if row.jitter:
            ready = next((n for n, at in enumerate(found) if at + delay(item.pk, at, row.jitter) > now), len(found))
            count -= len(found) - ready
            found = found[:ready]
        if row.ends is not None:
            ended = len(found)
            found = [at for at in found if at < row.ends]
            count -= ended - len(found)
        return (found[:1], min(count, 1)) if row.one_off else (found, count)

    def _advance(
        self, connection: Any, known: dict[int, Item], rows: dict[int, Any], fired: dict[int, Any], now: float
    ) -> None:
        done = [
            (pk, now if last == float("-inf") else last, verdicts)
            for pk, (verdicts, last) in fired.items()
            if last > known[pk].anchor or self._over(rows[pk], now)
        ]
        if not done:
            return
        connection.execute("SELECT set_config('schedules.silent', 'on', true)")
        facts = {
            "ids": [pk for pk, _last, _verdicts in done],
            "due": [last for _pk, last, _verdicts in done],
            "runs": [sum(v.state == State.CLAIMED for v in verdicts) for _pk, _last, verdicts in done],
            "over": [
                self._over(rows[pk], now) or (rows[pk].one_off and bool(verdicts)) for pk, _last, verdicts in done
            ],
        }
        connection.execute(ledger.ADVANCE, facts)

    def _settle(
        self, known: dict[int, Item], rows: dict[int, Any], fired: dict[int, Any], won: set[Any], now: float
    ) -> list[Parcel]:
        """After the commit: the heap, and what is to be sent."""
        parcels = []
        for pk, item in known.items():
            if pk not in rows or self._over(rows[pk], now) or (rows[pk].one_off and fired[pk][0]):
                self.plan.forget(pk)
                continue
            verdicts, last = fired[pk]
            try:
                self.plan.advance(item, last)
            except Unusable as problem:
                self.plan.broken[pk] = problem.why
        for pk, (verdicts, _last) in fired.items():
            for verdict in verdicts:
                claimed = occurrence_id(pk, verdict.due_at)
                if verdict.state == State.CLAIMED and claimed in won:
                    parcels.append(Parcel(claimed, rows[pk]))
        return parcels

    @staticmethod
    def _paused(row: Any, now: float) -> bool:
        return bool(row.paused or (row.paused_until is not None and row.paused_until > now))

    @staticmethod
    def _over(row: Any, now: float) -> bool:
        return row.ends is not None and row.ends <= now


def _rules(row: Any) -> Rules:
    if row.overlap is None:
        return Rules(ends=row.ends)
    return Rules(
        overlap=row.overlap, missed=row.missed, catch_up_limit=row.catch_up_limit, grace=row.grace, pause_reason=row.pause_reason,
        pause_why=row.pause_why or (), paused_to=row.paused_until or row.resumed_at, ends=row.ends,
    )  # fmt: skip
