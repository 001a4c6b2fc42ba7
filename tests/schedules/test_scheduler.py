from datetime import timedelta

import pytest
from celery.schedules import crontab
from django.utils import timezone

from schedules.models import Schedule
from schedules.scheduler import RowEntry

pytestmark = pytest.mark.django_db


def test_an_entry_of_the_settings_is_created_once_and_then_left_alone():
    entry = {"task": "tests.anything", "schedule": crontab("0", "4"), "args": [1]}
    RowEntry.from_entry("static", **entry)
    row = Schedule.objects.get()
    assert (row.cron_line, row.args) == ("0 4 * * *", "[1]")
    Schedule.objects.update(enabled=False, args="[2]")
    RowEntry.from_entry("static", **entry)
    row.refresh_from_db()
    assert (row.enabled, row.args) == (False, "[2]")


def test_noting_a_run_keeps_the_edit_of_the_same_moment(schedule):
    entry = next(RowEntry(Schedule.objects.get()))
    Schedule.objects.update(description="Edited meanwhile", enabled=False)
    entry.save()
    row = Schedule.objects.get()
    assert (row.description, row.enabled, row.total_run_count) == ("Edited meanwhile", False, 1)
    assert row.last_run_at == entry.model.last_run_at


def test_nothing_runs_before_the_start_date_and_the_first_run_is_at_it(schedule):
    Schedule.objects.update(start_time=timezone.now() + timedelta(hours=1))
    later = RowEntry(Schedule.objects.get()).is_due()
    assert not later.is_due
    assert 3500 < later.next <= 3600
    assert next(Schedule.objects.get().next_runs()) == Schedule.objects.get().start_time
    Schedule.objects.update(start_time=timezone.now(), date_changed=timezone.now() - timedelta(hours=1))
    assert RowEntry(Schedule.objects.get()).is_due().is_due


def test_a_schedule_that_has_ended_turns_itself_off(schedule):
    Schedule.objects.update(expires=timezone.now() - timedelta(seconds=1))
    assert not RowEntry(Schedule.objects.get()).is_due().is_due
    assert not Schedule.objects.get().enabled
