import json
from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone
from django_celery_beat.models import CrontabSchedule, IntervalSchedule, PeriodicTasks

from schedules.forms import ScheduleForm
from schedules.models import Schedule

pytestmark = pytest.mark.django_db


def test_a_cron_line_is_saved_with_its_zone_and_call(typed):
    form = ScheduleForm(typed | {"queue": "slow", "priority": "3", "expire_seconds": "60", "start": "2030-01-01T09:00"})
    assert form.is_valid(), form.errors
    form.save()
    saved = Schedule.objects.get(name="New")
    assert (saved.cron_line, saved.zone.key) == ("0 9 * * 1-5", "Europe/Berlin")
    assert (json.loads(saved.args), json.loads(saved.kwargs)) == ([1, 2], {"times": 3})
    assert (saved.queue, saved.priority, saved.expire_seconds) == ("slow", 3, 60)
    assert saved.start_time == datetime(2030, 1, 1, 8, tzinfo=UTC)


def test_an_interval_and_a_moment_are_saved(typed):
    ScheduleForm(typed | {"name": "A", "kind": "every", "every": "30", "period": "seconds"}).save()
    ScheduleForm(typed | {"name": "B", "kind": "once", "at": "2030-01-01T09:00", "timezone": "Asia/Tokyo"}).save()
    assert Schedule.objects.get(name="A").words == "Every 30 seconds"
    once = Schedule.objects.get(name="B")
    assert (once.clocked.clocked_time, once.one_off) == (datetime(2030, 1, 1, tzinfo=UTC), True)


@pytest.mark.parametrize(
    ("change", "field", "says"),
    [
        ({"cron": "31 2"}, "cron", "five fields"),
        ({"cron": ""}, "cron", "five fields"),
        ({"cron": "0 0 30 2 *"}, "cron", "would never run"),
        ({"cron": "0 0 * * 7"}, "cron", "Write 0 for Sunday"),
        ({"timezone": "Asia/Tokio"}, "timezone", "Asia/Tokyo"),
        ({"kind": "every", "every": "0"}, "every", "at least 1"),
        ({"kind": "every", "every": ""}, "every", "how many"),
        ({"kind": "every", "every": "99999999999"}, "every", "ten years"),
        ({"kind": "every", "period": "years"}, "period", "years"),
        ({"kind": "once"}, "at", "Say when"),
        ({"kind": "once", "at": "2020-01-01T09:00"}, "at", "has passed"),
        ({"kind": "once", "at": "tomorrow"}, "at", "Write date and time"),
        ({"kind": "once", "at": "2030-13-41T09:00"}, "at", "Write date and time"),
        ({"kind": "sometimes"}, "kind", "sometimes"),
        ({"args": "[1, 2"}, "args", "line 1"),
        ({"args": '{"a": 1}'}, "args", "A JSON array"),
        ({"args": "5"}, "args", "A JSON array"),
        ({"args": "[NaN]"}, "args", "not JSON"),
        ({"args": "[" * 20_000}, "args", "nested too deeply"),
        ({"kwargs": "[1]"}, "kwargs", "A JSON object"),
        ({"headers": "null"}, "headers", "A JSON object"),
        ({"args": "[]", "kwargs": "{}"}, "args", "missing a required argument: 'first'"),
        ({"args": "[1, 2, 3]"}, "args", "too many positional"),
        ({"kwargs": '{"tmies": 3}'}, "kwargs", "unexpected keyword argument 'tmies'"),
        ({"task": "tests.totl"}, "task", "Did you mean tests.total"),
        ({"task": "nothing.like.it"}, "task", "no task"),
        ({"task": ""}, "task", "required"),
        ({"priority": "256"}, "priority", "255"),
        ({"expire_seconds": "0"}, "expire_seconds", "At least 1"),
        ({"name": ""}, "name", "required"),
        ({"kind": "once", "at": "2030-01-01T09:00", "start": "2031-01-01T09:00"}, "start", "never run"),
    ],
)
def test_what_could_never_run_is_refused_at_its_field(typed, change, field, says):
    form = ScheduleForm(typed | change)
    assert not form.is_valid()
    assert set(form.errors) == {field}
    assert says in " ".join(form.errors[field])
    assert not Schedule.objects.exists()


def test_a_name_is_given_once(typed, schedule):
    form = ScheduleForm(typed | {"name": schedule.name})
    assert "already exists" in " ".join(form.errors["name"])


def test_every_wrong_field_is_told_at_once(typed):
    form = ScheduleForm(typed | {"cron": "x", "args": "x", "task": "x", "name": ""})
    assert set(form.errors) == {"cron", "args", "task", "name"}


def test_a_new_time_never_changes_somebody_elses_schedule(typed, schedule):
    ScheduleForm(typed | {"kind": "every", "every": "10", "period": "minutes"}).save()
    new = Schedule.objects.get(name="New")
    assert new.interval_id == schedule.interval_id
    ScheduleForm(typed | {"kind": "every", "every": "7", "period": "minutes"}, instance=new).save()
    assert Schedule.objects.get(pk=schedule.pk).words == "Every 10 minutes"
    assert Schedule.objects.get(pk=new.pk).words == "Every 7 minutes"


def test_equal_times_share_a_row(typed):
    ScheduleForm(typed | {"name": "A"}).save()
    ScheduleForm(typed | {"name": "B"}).save()
    assert CrontabSchedule.objects.count() == 1


def test_a_form_that_is_not_saved_writes_nothing(typed):
    assert ScheduleForm(typed | {"kind": "every", "every": "7"}).is_valid()
    assert not IntervalSchedule.objects.exists()


def test_the_form_shows_what_is_saved(typed):
    ScheduleForm(typed | {"start": "2030-01-01T09:00"}).save()
    saved = Schedule.objects.get(name="New")
    shown = ScheduleForm(instance=saved)
    again = {name: shown[name].value() for name in shown.fields}
    assert (again["cron"], again["timezone"], again["kind"]) == ("0 9 * * 1-5", "Europe/Berlin", "cron")
    html = str(shown["start"])
    assert 'value="2030-01-01T09:00:00"' in html
    resent = typed | {"start": "2030-01-01T09:00:00"}
    assert ScheduleForm(resent, instance=saved).changed_data == []


def test_saving_tells_beat(typed):
    ScheduleForm(typed).save()
    before = PeriodicTasks.last_change()
    ScheduleForm(typed | {"description": "Changed"}, instance=Schedule.objects.get(name="New")).save()
    assert PeriodicTasks.last_change() > before


def test_an_edit_keeps_beats_columns_and_a_new_time_counts_from_now(typed):
    ScheduleForm(typed).save()
    ran = timezone.now() - timedelta(days=2)
    Schedule.objects.update(last_run_at=ran, total_run_count=7)
    stale = Schedule.objects.get()
    Schedule.objects.update(total_run_count=8)  # beat, while the form is open
    ScheduleForm(typed | {"description": "Changed"}, instance=stale).save()
    same = Schedule.objects.get()
    assert (same.last_run_at, same.total_run_count, same.description) == (ran, 8, "Changed")
    ScheduleForm(typed | {"cron": "0 8 * * *"}, instance=same).save()
    moved = Schedule.objects.get()
    assert (moved.last_run_at, moved.total_run_count) == (None, 8)
    assert next(moved.next_runs()) > timezone.now()


def test_a_schedule_that_has_run_can_become_a_single_moment(typed):
    ScheduleForm(typed).save()
    Schedule.objects.update(total_run_count=8)
    ScheduleForm(typed | {"kind": "once", "at": "2030-01-01T09:00"}, instance=Schedule.objects.get()).save()
    assert Schedule.objects.get().total_run_count == 0  # beat takes a counted one-off for done
    ScheduleForm(typed, instance=Schedule.objects.get()).save()
    back = Schedule.objects.get()
    assert (back.one_off, back.clocked) == (False, None)
