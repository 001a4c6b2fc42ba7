import uuid
from datetime import timedelta

import pytest
from django.utils import timezone

from schedules import edit
from schedules.due import Every
from schedules.history import Occurrence
from schedules.models import Schedule
from schedules.prune import prune_occurrences

pytestmark = pytest.mark.django_db


def happened(schedule, days, state="sent"):
    at = timezone.now() - timedelta(days=days)
    one = Occurrence.objects.create(id=uuid.uuid4(), schedule_id=schedule, name="x", due_at=at, state=state)
    Occurrence.objects.filter(pk=one.pk).update(claimed_at=at)
    return one


def test_old_occurrences_go_and_the_newest_of_each_schedule_stays(schedule):
    other = Schedule(name="Other", task="tests.anything")
    edit.place(other, Every.parse(10, "minutes"))
    edit.save(other)
    for days in (100, 99, 1):
        happened(schedule.pk, days)
    stays = happened(other.pk, 200)
    assert prune_occurrences(timedelta(days=90), dry_run=True) == 2
    assert prune_occurrences(timedelta(days=90)) == 2
    assert Occurrence.objects.count() == 2
    assert Occurrence.objects.filter(pk=stays.pk).exists()


def test_what_is_not_sent_yet_is_kept():
    happened(1, 100, "claimed")
    happened(1, 1)
    assert prune_occurrences(timedelta(days=90)) == 0


def test_of_a_schedule_that_is_gone_nothing_stays():
    happened(1, 100)
    stays = happened(1, 1)
    assert prune_occurrences(timedelta(days=90)) == 1
    assert Occurrence.objects.get() == stays
    assert prune_occurrences(timedelta(hours=1)) == 1
