"""What the leader keeps in memory stays what the tables say, whatever nobody told it."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from django.db import connection
from django.utils import timezone

from schedules.checkup import Checkup
from schedules.election import Seat
from schedules.firing import Firing
from schedules.models import Occurrence, Policy, Schedule
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


def test_a_database_whose_clock_was_ahead_silences_no_schedule(plan, schedule):
    """It was sent for times that have not come; when the clock is set back it goes on from now."""
    untold("UPDATE django_celery_beat_periodictask SET last_run_at = now() + interval '9 hours'")
    plan.load()
    item = plan.items[schedule.pk]
    now = plan.seat.now()
    assert now < item.at <= now + 601

    item.anchor, item.at = now + 9 * 3600, now + 9 * 3600 + 600  # as the leader that fired them has it
    Checkup(plan.seat, plan).slice()
    assert plan.items[schedule.pk].at <= plan.seat.now() + 601
    Checkup(plan.seat, plan).slice()


def test_of_due_times_that_are_behind_those_of_a_clock_that_was_ahead_none_is_lost(plan, schedule):
    now = plan.seat.now()
    ahead = datetime.fromtimestamp(now + 9 * 3600, UTC)
    Occurrence.objects.create(id=uuid4(), schedule_id=schedule.pk, name="Ten", due_at=ahead, state="sent")
    untold("UPDATE django_celery_beat_periodictask SET last_run_at = %s", datetime.fromtimestamp(now - 1900, UTC))
    plan.load()
    firing = Firing(plan.seat, plan)
    (parcel,) = firing.fire(plan.take_due(plan.seat.now(), 10), plan.seat.now())
    assert Occurrence.objects.get(pk=parcel.id).folded == 2
