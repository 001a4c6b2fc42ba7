import json
from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone
from django_celery_beat.models import CrontabSchedule, IntervalSchedule, PeriodicTasks

from schedules import edit
from schedules.forms import ScheduleForm
from schedules.models import Policy, Schedule
from schedules.pause import pause

pytestmark = pytest.mark.django_db


def test_a_cron_line_is_saved_with_its_zone_and_call(typed):
    form = ScheduleForm(
        typed | {"queue": "default", "priority": "3", "expire_seconds": "60", "start": "2030-01-01T09:00"}
    )
    assert form.is_valid(), form.errors
    form.save()
    saved = Schedule.objects.get(name="New")
    assert (saved.cron_line, saved.zone.key) == ("0 9 * * 1-5", "Europe/Berlin")
    assert (json.loads(saved.args), json.loads(saved.kwargs)) == ([1, 2], {"times": 3})
    assert (saved.queue, saved.priority, saved.expire_seconds) == ("default", 3, 60)
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
        ({"kind": "every", "period": ""}, "period", "Seconds, minutes"),
        ({"kind": "solar", "event": "sunrise", "latitude": "", "longitude": "0"}, "latitude", "Say where"),
        ({"kind": "solar", "event": "sunrise", "latitude": "91", "longitude": "0"}, "latitude", "90"),
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
        ({"args": r'["\ud800", 1]'}, "args", r"\ud800 is half a character"),
        ({"args": f"[1, {'1' * 5000}]"}, "args", "too large"),
        ({"args": "[1, 1e999]"}, "args", "too large"),
        ({"end": "9999-12-31T23:59:59", "timezone": "America/New_York"}, "end", "1970 to 9000"),
        ({"start": "0001-01-01T00:00:00", "timezone": "Asia/Tokyo"}, "start", "1970 to 9000"),
        ({"start": "9990-01-01T00:00:00"}, "start", "1970 to 9000"),
        ({"kind": "once", "at": "9999-12-31T23:59:59", "timezone": "America/New_York"}, "at", "1970 to 9000"),
        ({"kwargs": "[1]"}, "kwargs", "A JSON object"),
        ({"headers": "null"}, "headers", "A JSON object"),
        ({"headers": '{"task": "tests.die"}'}, "headers", "sets the header task itself"),
        ({"args": "[]", "kwargs": "{}"}, "args", "missing a required argument: 'first'"),
        ({"args": "[1, 2, 3]"}, "args", "too many positional"),
        ({"kwargs": '{"tmies": 3}'}, "kwargs", "unexpected keyword argument 'tmies'"),
        ({"task": "tests.totl"}, "task", "Did you mean tests.total"),
        ({"task": "nothing.like.it"}, "task", "no task"),
        ({"task": ""}, "task", "required"),
        ({"priority": "256"}, "priority", "255"),
        ({"queue": "defualt"}, "queue", "Did you mean default"),
        ({"queue": "nobody"}, "queue", "No worker listens"),
        (
            {"task": "tests.typed", "args": '["5", "name"]', "kwargs": "{}"},
            "args",
            'count must be a whole number, not "5"',
        ),
        (
            {"task": "tests.typed", "args": "[true, 2]", "kwargs": "{}"},
            "args",
            "count must be a whole number, not true",
        ),
        ({"task": "tests.typed", "args": "[1]", "kwargs": '{"name": null}'}, "kwargs", "name must be a text"),
        ({"end": "2020-01-01T09:00"}, "end", "has passed"),
        ({"end": "2031-01-01T09:00", "expire_seconds": "60"}, "expire_seconds", "one of the two"),
        ({"start": "2030-01-05T10:00", "end": "2030-01-05T11:00"}, "end", "before its next run"),
        ({"jitter": "-1"}, "jitter", "0"),
        ({"pause_after_failures": "0"}, "pause_after_failures", "1"),
        ({"overlap": "maybe"}, "overlap", "maybe"),
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
    form = ScheduleForm(again, instance=saved)
    assert form.is_valid(), form.errors
    assert edit.save(form.instance) == []  # what is shown and sent back changes nothing


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


@pytest.mark.parametrize("change", [{"task": "not.here.yet", "args": '["whatever"]'}, {"queue": "tomorrow"}])
def test_what_is_unknown_here_is_scheduled_when_somebody_insists(typed, change):
    refused = ScheduleForm(typed | change)
    assert not refused.is_valid()
    assert refused.unknown
    assert ScheduleForm(typed | change | {"anyway": "on"}).is_valid()


def test_a_queue_that_is_saved_already_does_not_stop_another_edit(typed):
    ScheduleForm(typed | {"queue": "tomorrow", "anyway": "on"}).save()
    form = ScheduleForm(typed | {"queue": "tomorrow", "description": "Soon."}, instance=Schedule.objects.get())
    assert form.is_valid(), form.errors


def test_policies_are_saved_and_defaults_leave_no_row(typed):
    ScheduleForm(typed).save()
    assert not Policy.objects.exists()
    wanted = {
        "overlap": "skip",
        "missed": "all",
        "catch_up_limit": "5",
        "grace": "600",
        "jitter": "30",
        "pause_after_failures": "3",
    }
    ScheduleForm(typed | wanted, instance=Schedule.objects.get()).save()
    policy = Policy.objects.get()
    assert (policy.overlap, policy.missed, policy.catch_up_limit, policy.grace) == ("skip", "all", 5, 600)
    assert (policy.jitter, policy.pause_after_failures) == (30, 3)
    ScheduleForm(typed, instance=Schedule.objects.get()).save()
    assert Policy.objects.get().overlap == "allow"


def test_an_edit_leaves_a_pause_alone(typed, admin_user):
    ScheduleForm(typed).save()
    form = ScheduleForm(typed | {"overlap": "skip"}, instance=Schedule.objects.get())
    assert form.is_valid()
    pause(Schedule.objects.get(), reason="audit", by=admin_user)  # while the form is open
    edit.save(form.instance)
    policy = Policy.objects.get()
    assert (policy.overlap, policy.pause_reason, policy.paused_at is None) == ("skip", "audit", False)


def test_each_parameter_of_the_task_is_a_field(typed):
    fields = {
        "task": "tests.typed",
        "arguments": "form",
        "p-count": "3",
        "p-name": " a text ",
        "p-deep": "true",
        "p-rest": '[{"a": 1}]',
    }
    form = ScheduleForm(typed | fields)
    assert [field.label for field in form.parameter_fields] == ["count", "name", "ratio", "deep", "rest"]
    form.save()
    saved = Schedule.objects.get()
    assert json.loads(saved.args) == []
    assert json.loads(saved.kwargs) == {"count": 3, "name": "a text", "deep": True, "rest": [{"a": 1}]}
    shown = ScheduleForm(instance=saved)
    assert {field.name: field.value() for field in shown.parameter_fields} == {
        "p-count": "3", "p-name": "a text", "p-ratio": "", "p-deep": "true", "p-rest": '[{"a": 1}]',
    }  # fmt: skip
    assert shown["arguments"].value() == "form"


@pytest.mark.parametrize(
    ("change", "field", "says"),
    [
        ({"p-count": "three"}, "p-count", "A whole number"),
        ({"p-count": "1.5"}, "p-count", "A whole number"),
        ({"p-count": ""}, "p-count", "needed"),
        ({"p-ratio": "much"}, "p-ratio", "A number"),
        ({"p-rest": "[1"}, "p-rest", "JSON"),
        ({"p-deep": "maybe"}, "p-deep", "maybe"),
    ],
)
def test_a_parameter_of_the_wrong_type_is_refused_at_its_field(typed, change, field, says):
    fields = {"task": "tests.typed", "arguments": "form", "p-count": "3", "p-name": "x"}
    form = ScheduleForm(typed | fields | change)
    assert set(form.errors) == {field}
    assert says in " ".join(form.errors[field])


def test_a_call_that_nobody_touched_stays_as_it_was_written(typed):
    ScheduleForm(typed).save()
    saved = Schedule.objects.get()
    fields = {
        "arguments": "form",
        "p-first": "1",
        "p-second": "2",
        "p-times": "3",
    }  # and beside them the JSON of `typed`
    ScheduleForm(typed | fields | {"description": "Changed"}, instance=saved).save()
    assert (json.loads(saved.args), json.loads(saved.kwargs)) == ([1, 2], {"times": 3})
    ScheduleForm(typed | fields | {"p-times": "4"}, instance=saved).save()
    assert (json.loads(saved.args), json.loads(saved.kwargs)) == ([], {"first": 1, "second": 2, "times": 4})


def test_a_call_that_fits_no_fields_is_shown_as_json(typed):
    ScheduleForm(typed).save()
    Schedule.objects.update(args="[1]", kwargs='{"tmies": 3}')
    assert ScheduleForm(instance=Schedule.objects.get())["arguments"].value() == "json"


def test_times_by_the_sun_are_saved(typed):
    pytest.importorskip("ephem")
    ScheduleForm(typed | {"kind": "solar", "event": "sunset", "latitude": "35.7", "longitude": "139.7"}).save()
    saved = Schedule.objects.get()
    assert (saved.solar.event, str(saved.solar.latitude)) == ("sunset", "35.700000")
    assert edit.save(ScheduleForm(instance=saved).instance) == []


def test_the_second_of_two_half_past_two_can_be_said_with_its_offset(typed):
    late = {"kind": "once", "at": "2030-10-27T02:30:00+01:00", "timezone": "Europe/Berlin"}
    ScheduleForm(typed | late).save()
    saved = Schedule.objects.get()
    assert saved.clocked.clocked_time == datetime(2030, 10, 27, 1, 30, tzinfo=UTC)
    shown = ScheduleForm(instance=saved)
    again = {name: shown[name].value() for name in shown.fields}
    form = ScheduleForm(again, instance=saved)
    assert form.is_valid(), form.errors
    assert edit.save(form.instance) == []


def test_somebody_who_may_not_enable_leaves_it_as_it_is(typed):
    form_of_others = type("Form", (ScheduleForm,), {"may_enable": False})
    form_of_others(typed | {"enabled": "on"}).save()
    assert not Schedule.objects.get().enabled
    Schedule.objects.update(enabled=True)
    off = {name: value for name, value in typed.items() if name != "enabled"}
    form_of_others(off, instance=Schedule.objects.get()).save()
    assert Schedule.objects.get().enabled


def test_the_second_of_two_who_edit_at_once_is_told_and_may_insist(typed):
    ScheduleForm(typed).save()
    saved = Schedule.objects.get()
    seen = ScheduleForm(instance=saved)["seen"].value()
    ScheduleForm(typed | {"description": "First", "seen": seen}, instance=saved).save()
    Schedule.objects.update(last_run_at=timezone.now(), total_run_count=1)  # beat's notes are no edit
    form = ScheduleForm(typed | {"description": "Second", "seen": seen}, instance=Schedule.objects.get())
    assert "Somebody changed it" in str(form.non_field_errors())
    assert Schedule.objects.get().description == "First"
    again = ScheduleForm(
        typed | {"description": "Second", "seen": form["seen"].value()}, instance=Schedule.objects.get()
    )
    again.save()
    assert Schedule.objects.get().description == "Second"
