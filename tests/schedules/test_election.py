"""Who leads, by the lock of one session."""

import psycopg
import pytest
from django.db import connection

from schedules.election import Seat

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_leader_whose_session_has_ended_gets_no_new_one_without_the_lock():
    seat, other = Seat(), Seat()
    try:
        assert seat.take()
        assert not other.take()
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s)", [seat.connection.info.backend_pid])
        with pytest.raises(psycopg.OperationalError):
            seat.connection.execute("SELECT 1")
        with pytest.raises(psycopg.InterfaceError, match="the session that held the lock has ended"):
            seat.listen(0)
        assert other.take()
        seat.leave()
        assert not seat.take()
    finally:
        seat.leave()
        other.leave()
