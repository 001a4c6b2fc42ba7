"""What the leader keeps in memory stays what the tables say, whatever nobody told it."""

from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from schedules.checkup import Checkup
from schedules.election import Seat
from schedules.models import Policy, Schedule
from schedules.plan import Plan

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def plan():
    seat = Seat()
    assert seat.take()
    yield Plan(seat)
    seat.leave()


def untold(statement, *values):
    """As a restore and a replica do it: without triggers."""
    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        cursor.execute(statement, values)
        cursor.execute("RESET session_replication_role")


def test_a_pause_that_was_ended_without_a_word_is_noticed(plan, schedule):
    Policy.objects.create(schedule_id=schedule.pk, paused_at=timezone.now(), pause_reason="Let it be")
    plan.load()
    assert plan.items[schedule.pk].at is None
    untold("DELETE FROM schedules_policy")
    Checkup(plan.seat, plan).slice()
    assert plan.items[schedule.pk].at is not None


def test_a_later_end_of_a_pause_and_another_start_are_noticed(plan, schedule):
    end = timezone.now() + timedelta(hours=1)
    Policy.objects.create(schedule_id=schedule.pk, paused_at=timezone.now(), paused_until=end, pause_reason="Let it be")
    plan.load()
    assert plan.items[schedule.pk].at == end.timestamp()
    untold("UPDATE schedules_policy SET paused_until = paused_until + interval '1 hour'")
    Checkup(plan.seat, plan).slice()
    assert plan.items[schedule.pk].at == end.timestamp() + 3600

    untold("DELETE FROM schedules_policy")
    start = timezone.now() + timedelta(days=1)
    untold("UPDATE django_celery_beat_periodictask SET start_time = %s", start)
    Checkup(plan.seat, plan).slice()
    assert plan.items[schedule.pk].at == pytest.approx(start.timestamp(), abs=0.001)
    assert Schedule.objects.get().start_time == start
