"""Which of several beats leads: the holder of a session lock, on the connection that also makes every claim.

A beat that lost the lock has lost that connection, so it cannot claim anything. The lease is the server's: a session that is silent
for LEASE seconds (its process is stopped, swapped out or cut off) is ended by PostgreSQL, and its lock is free.
"""

import logging
import os
import select
import socket
import time
from typing import Any

import psycopg
from django.db import connection as django_connection

logger = logging.getLogger(__name__)

# Any number, as long as all beats of a database use the same.
LOCK = 0x62656174
CHANNEL = "schedules"
LEASE = 4.0
HEARTBEAT = 1.0
# Linux has a clock that goes on while the machine is suspended.
CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
# No message leaves when the lease was last renewed longer ago than this.
TRUSTED = 3.0

RENEW = """
    INSERT INTO schedules_beat AS beat (name, started_at, ticked_at, leads_since, schedules)
    VALUES (%(name)s, statement_timestamp(), statement_timestamp(), CASE WHEN %(leads)s THEN statement_timestamp() END, %(schedules)s)
    ON CONFLICT (name) DO UPDATE
       SET ticked_at = excluded.ticked_at, schedules = excluded.schedules,
           leads_since = CASE WHEN %(leads)s THEN coalesce(beat.leads_since, excluded.leads_since) END
    RETURNING extract(epoch FROM clock_timestamp())::float8
"""
# A beat that was killed is shown as silent for a while.
FORGET = "DELETE FROM schedules_beat WHERE ticked_at < now() - interval '10 minutes'"
OTHERS_FOLLOW = "UPDATE schedules_beat SET leads_since = NULL WHERE name <> %s AND leads_since IS NOT NULL"


def elapsed() -> float:
    """Seconds on a clock that nobody sets, and that goes on while this process or machine is stopped."""
    return time.clock_gettime(CLOCK)


class Seat:
    """One beat's candidacy. `connection` is open from the first `take` on; everything raises psycopg's errors when it is gone."""

    def __init__(self) -> None:
        self.name = f"{socket.gethostname()}:{os.getpid()}"
        self.leads = False
        self.schedules = 0
        self._connection: psycopg.Connection[Any] | None = None
        self._renewed = float("-inf")
        self._offset = 0.0  # the database's clock minus elapsed()

    @property
    def connection(self) -> psycopg.Connection[Any]:
        """The session whose lock this is about.

        Raises:
            psycopg.InterfaceError: this beat led by a session that is gone, and its lock with it. A new one would have no lock.
        """
        if self.leads and self.is_lost:
            raise psycopg.InterfaceError("the session that held the lock has ended")
        if self._connection is None or self._connection.closed:
            self._connection = _connect(self.name)
        return self._connection

    @property
    def is_lost(self) -> bool:
        """Whether the session has ended."""
        return self._connection is None or self._connection.closed

    def take(self) -> bool:
        """Lead, if nobody does."""
        taken = self.connection.execute("SELECT pg_try_advisory_lock(%s)", (LOCK,)).fetchone()
        self.leads = bool(taken and taken[0])
        if self.leads:
            self.connection.execute(f"LISTEN {CHANNEL}")
            self.connection.execute(OTHERS_FOLLOW, (self.name,))
            self.connection.execute(FORGET)
            self._renewed = float("-inf")
        self.renew()
        return self.leads

    def renew(self) -> None:
        """Show that this beat lives, once in half a heartbeat at most; for the leader that is its lease."""
        before = elapsed()
        if before - self._renewed < HEARTBEAT / 2:
            return
        facts = {"name": self.name, "leads": self.leads, "schedules": self.schedules}
        row = self.connection.execute(RENEW, facts).fetchone()
        assert row is not None
        self._offset = row[0] - (before + elapsed()) / 2
        self._renewed = before

    @property
    def trusted(self) -> bool:
        """Whether nobody else can lead yet, as far as this process can know."""
        return self.leads and elapsed() - self._renewed < TRUSTED

    def now(self) -> float:
        """The time by the database's clock, whatever this machine's clock says."""
        return self._offset + elapsed()

    def listen(self, seconds: float) -> list[str]:
        """What was told on the channel, as soon as something is, or nothing after some seconds."""
        told = [note.payload for note in self.connection.notifies(timeout=0)]
        if not told and seconds > 0:
            # Not psycopg's own wait: it looks up every tenth of a second, idle or not.
            select.select([self.connection.fileno()], [], [], seconds)
            told = [note.payload for note in self.connection.notifies(timeout=0)]
        return told

    def leave(self) -> None:
        """Give up the lock and the connection. Never raises."""
        self.leads = False
        connection, self._connection = self._connection, None
        self._renewed = float("-inf")
        if connection is not None:
            try:
                connection.close()
            except psycopg.Error:
                logger.debug("schedules.connection_not_closed", exc_info=True)


def _connect(name: str) -> psycopg.Connection[Any]:
    """A session of our own, not through Django's: it must be the same one from claim to claim."""
    told = django_connection.get_connection_params()
    for ours in ("cursor_factory", "context", "prepare_threshold"):
        told.pop(ours, None)
    connection = psycopg.connect(
        **{
            **told, "application_name": f"redeliver beat {name}"[:63], "connect_timeout": 3, "keepalives_idle": 2,
            "keepalives_interval": 1, "keepalives_count": 2, "tcp_user_timeout": int(LEASE * 1000),
        },
        autocommit=True,
    )  # fmt: skip
    limit = str(int(LEASE * 1000))
    settings = {
        "idle_session_timeout": limit, "idle_in_transaction_session_timeout": limit, "tcp_user_timeout": limit, "lock_timeout": "250",
        "tcp_keepalives_idle": "2", "tcp_keepalives_interval": "1", "tcp_keepalives_count": "2", "timezone": "UTC",
    }  # fmt: skip
    for setting, value in settings.items():
        connection.execute("SELECT set_config(%s, %s, false)", (setting, value))
    return connection
