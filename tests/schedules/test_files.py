import json
from itertools import pairwise

import pytest
import yaml
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django_celery_beat.models import SolarSchedule

from schedules import edit
from schedules.forms import ScheduleForm
from schedules.models import Policy, Schedule
from schedules.pause import pause
from schedules.spec import spec_of
from schedules.yaml_file import BadFile, dump, load

pytestmark = pytest.mark.django_db


@pytest.fixture
def several(typed, admin_user):
    """One schedule of each kind, with everything that can be said about one."""
    more = {
        "Cron": {"headers": '{"tenant": "blau", "n": [1, 1.0, true, null]}', "priority": "3", "start": "2030-01-01T09:00:00", "end": "2031-01-01T00:00:00"},
        "Every": {"kind": "every", "every": "30", "period": "seconds", "expire_seconds": "60", "one_off": "on", "description": "Zwei\nZeilen: „so“"},
        "Once": {"kind": "once", "at": "2030-10-27T02:30:00.123456+01:00", "queue": "later", "exchange": "x", "routing_key": "x.y", "anyway": "on"},
        "Policies": {"overlap": "queue", "missed": "all", "catch_up_limit": "7", "grace": "60", "jitter": "5", "pause_after_failures": "2"},
        "yes": {"args": '["0123", "2030-01-01", "no", "a: b"]', "kwargs": "{}", "task": "tests.anything"},
    }  # fmt: skip
    for name, change in more.items():
        ScheduleForm(typed | {"name": name} | change).save()
    off = ScheduleForm(typed | {"name": "Off and past", "kind": "once", "at": "2030-01-01T00:00:00Z"}).save()
    off.clocked.clocked_time = off.clocked.clocked_time.replace(year=2020)
    off.clocked.save()
    Schedule.objects.filter(pk=off.pk).update(enabled=False)
    sun = SolarSchedule.objects.create(event="sunset", latitude="35.7", longitude="-139.654321")
    Schedule.objects.create(name="Sun", task="tests.total", args="[1, 2]", solar=sun)
    pause(Schedule.objects.get(name="Every"), reason="audit", by=admin_user)
    return everything()


def everything():
    rows = Schedule.objects.order_by("name")
    return {row.name: spec_of(row) for row in rows}


@pytest.fixture
def file(tmp_path):
    return tmp_path / "schedules.yaml"


def run(file, *options, capsys):
    """(exit code, standard output, what went wrong)"""
    try:
        call_command("import_schedules", str(file), *options)
    except CommandError as refusal:
        return refusal.returncode, capsys.readouterr().out, str(refusal)
    return 0, capsys.readouterr().out, ""


def test_what_is_exported_and_imported_elsewhere_is_the_same(several, file, capsys):
    call_command("export_schedules", str(file))
    text = file.read_text()
    Schedule.objects.all().delete()
    code, said, why = run(file, "--as", "admin", "--anyway", capsys=capsys)
    assert (code, why) == (0, ""), said
    assert everything() == several
    call_command("export_schedules", str(file))
    assert file.read_text() == text


def test_what_is_exported_changes_nothing_where_it_came_from(several, file, capsys):
    call_command("export_schedules", str(file))
    before = Schedule.objects.order_by("pk").values_list("pk", "date_changed", "args")
    kept = list(before)
    assert run(file, "--as", "admin", "--prune", capsys=capsys)[:2] == (
        0,
        f"0 created, 0 changed, 0 removed, {len(several)} unchanged, 0 refused.\n",
    )
    assert list(before.all()) == kept


def test_a_file_says_only_what_is_not_meant_anyway(schedule):
    assert yaml.safe_load(dump([schedule])) == [{"name": "Ten", "task": "tests.anything", "every": "10 minutes"}]
    assert "- {name" not in dump([schedule])


PLAN = """
- name: New
  task: tests.total
  cron: 0 9 * * *
  timezone: Europe/Berlin
  args: [1, 2]
- name: Ten
  task: tests.anything
  every: 5 minutes
  overlap: skip
"""


def test_a_dry_run_shows_the_plan_like_a_diff_and_writes_nothing(schedule, file, capsys):
    Schedule.objects.create(name="Old", task="tests.anything", interval=schedule.interval)
    file.write_text(PLAN)
    before = everything()
    code, said, _why = run(file, "--dry-run", capsys=capsys)
    assert code == 0
    assert said.splitlines() == [
        "+ New",
        "    task: tests.total",
        "    cron: 0 9 * * *",
        "    timezone: Europe/Berlin",
        "    args: [1, 2]",
        "~ Ten",
        "    every: 10 minutes → 5 minutes",
        "    overlap: allow → skip",
        "1 to create, 1 to change, 0 to remove, 0 unchanged, 0 refused.",
        "1 not in the file stay as they are (--prune would remove them).",
    ]
    assert "- Old" in run(file, "--dry-run", "--prune", capsys=capsys)[1]
    assert everything() == before
    assert not LogEntry.objects.exists()


def test_an_import_is_written_and_recorded_with_who_and_from_what_to_what(schedule, admin_user, file, capsys):
    Schedule.objects.create(name="Old", task="tests.anything", interval=schedule.interval)
    file.write_text(PLAN)
    assert run(file, "--as", "admin", "--prune", capsys=capsys)[0] == 0
    assert sorted(everything()) == ["New", "Ten"]
    assert Policy.objects.get().overlap == "skip"
    entries = {entry.object_repr: entry for entry in LogEntry.objects.all()}
    assert entries["New"].is_addition()
    assert entries["Old"].is_deletion()
    assert json.loads(entries["Ten"].change_message)[0]["diff"] == [
        ["every", "10 minutes", "5 minutes"],
        ["overlap", "allow", "skip"],
    ]
    assert {entry.user for entry in entries.values()} == {admin_user}


def test_one_that_is_refused_keeps_all_from_being_written(schedule, admin_user, file, capsys):
    bad = "- {name: Bad, task: tests.totl, cron: 0 0 30 2 *, args: {a: 1}, on: true}\n- {name: Worse, task: tests.total, cron: 0 0 * * *}\n- {name: None, task: tests.total}\n"
    file.write_text(PLAN + bad)
    code, said, why = run(file, "--as", "admin", capsys=capsys)
    assert code == 1
    assert "Nothing was written" in why
    assert "! Bad" in said
    assert "A schedule has no “True”" in said  # YAML reads `on` as a truth
    assert "    args: tests.total(first, second, *, times=1) does not take this" in said
    assert "Exactly one of cron, every, once, solar is needed." in said
    assert sorted(everything()) == ["Ten"]


@pytest.mark.parametrize(
    ("spec", "key", "says"),
    [
        ({"cron": "0 0 30 2 *"}, "cron", "would never run"),
        ({"cron": "0 0 * * 7"}, "cron", "Write 0 for Sunday"),
        ({"every": "0 minutes"}, "every", "at least 1"),
        ({"every": "soon"}, "every", "whole number"),
        ({"once": "2020-01-01T00:00:00Z"}, "once", "has passed"),
        ({"every": "1 minutes", "task": "tests.totl"}, "task", "Did you mean tests.total"),
        ({"every": "1 minutes", "args": {"a": 1}}, "args", "A JSON array"),
        ({"every": "1 minutes", "args": [1]}, "args", "missing a required argument"),
        ({"every": "1 minutes", "args": [1, 2], "headers": []}, "headers", "A JSON object"),
        ({"every": "1 minutes", "args": [1, 2], "queue": "nobody"}, "queue", "No worker listens"),
        ({"every": "1 minutes", "args": [1, 2], "enabled": "maybe"}, "enabled", "true or false"),
        ({"every": "1 minutes", "args": [1, 2], "overlap": "sometimes"}, "overlap", "sometimes"),
        ({"every": "1 minutes", "args": [1, 2], "paused": True}, "paused", "A pause is"),
        ({"every": "1 minutes", "args": [1, 2], "colour": "red"}, "colour", "no “colour”"),
        ({"every": "1 minutes", "cron": "0 0 * * *"}, "every", "Exactly one"),
        ({"once": "9999-12-31T23:59:59-05:00"}, "once", "1970 to 9000"),
        ({"every": "1 minutes", "paused": {"reason": "x", "until": "9999-12-31T23:59:59-05:00"}}, "paused", "a time with its offset"),
        ({"every": "1 minutes", "paused": {"reason": "a\0"}}, "paused", "A pause is"),
    ],
)  # fmt: skip
def test_the_rules_are_those_of_the_form(spec, key, says, file, capsys):
    file.write_text(yaml.safe_dump([{"name": "One", "task": "tests.total", **spec}]))
    code, said, _why = run(file, "--dry-run", "--json", capsys=capsys)
    (refused,) = json.loads(said)["refused"]
    assert code == 1
    assert key in {problem["key"] for problem in refused["problems"]}
    assert says in " ".join(problem["reason"] for problem in refused["problems"])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: [", "no YAML"),
        ("just words", "must be a list"),
        ("- 5", "Entry 1"),
        ("- {task: x}", "Entry 1"),
        ("- {name: A, task: x, task: y}", "“task” is said twice"),
        ("- !!python/object/apply:os.system ['true']", "no YAML"),
        ("- &a {name: A, kwargs: *a}", "aliases"),
        (
            "- name: A\n  args:\n  - &a [1]\n"
            + "".join(f"  - &{b} [*{a}, *{a}, *{a}, *{a}]\n" for a, b in pairwise("abcdefghijklm")),
            "aliases",
        ),
        ("- {name: A, kwargs: {1: one, two: 2}}", "The key 1 is no text"),
        ("- {name: A, kwargs: {2026-01-01: one}}", "The key 2026-01-01 is no text"),
        (r'- {name: "A\0"}', "Entry 1"),
        (r'- {name: A, args: ["\ud800"]}', r"half a character in '\ud800'"),
        ("- {name: A, grace: " + "1" * 5000 + "}", "no YAML"),
        ("- {name: A, once: 2026-02-31}", "no YAML"),
    ],
)
def test_a_file_that_is_none_is_refused_with_the_place(text, says, file, capsys):
    file.write_text(text)
    code, said, why = run(file, "--dry-run", capsys=capsys)
    assert (code, said) == (2, "")
    assert says in why
    with pytest.raises(BadFile):
        load(text)


def test_a_name_that_is_there_twice_is_refused(file, capsys):
    file.write_text("- &one {name: A, task: tests.anything, every: 1 minutes}\n- *one\n")
    assert "It is in the file twice." in run(file, "--dry-run", capsys=capsys)[1]


def test_a_missing_file_or_person_is_said(file, capsys):
    assert "cannot be read" in run(file, "--dry-run", capsys=capsys)[2]
    file.write_text(PLAN)
    assert run(file, capsys=capsys)[::2] == (2, "Say who imports: --as USER. Or look first: --dry-run.")
    assert "no active user 'zoe'" in run(file, "--as", "zoe", capsys=capsys)[2]


@pytest.mark.parametrize(
    ("text", "needs"),
    [
        ("- {name: A, task: tests.anything, every: 1 minutes, enabled: false}", {"add_schedule"}),
        ("- {name: A, task: tests.anything, every: 1 minutes}", {"add_schedule", "enable_schedule"}),
        ("- {name: Ten, task: tests.anything, every: 1 minutes}", {"change_schedule"}),
        ("- {name: Ten, task: tests.anything, every: 10 minutes, enabled: false}", {"enable_schedule"}),
        ("- {name: Ten, task: tests.anything, every: 10 minutes, paused: {reason: audit}}", {"enable_schedule"}),
        ("[]", {"delete_schedule"}),
    ],
)
def test_an_import_needs_the_permissions_of_what_it_does(text, needs, schedule, staff, file, capsys):  # noqa: PLR0917
    file.write_text(text)
    ana = staff("view_schedule", "run_schedule")
    before = everything()
    code, _said, why = run(file, "--as", "ana", "--prune" if text == "[]" else "--no-color", capsys=capsys)
    assert code == 2
    assert all(f"schedules.{codename}" in why for codename in needs)
    assert everything() == before
    User.objects.all().delete()
    ana = staff(*needs)
    assert run(file, "--as", ana.username, "--prune" if text == "[]" else "--no-color", capsys=capsys)[0] == 0
    assert everything() != before


def test_several_new_schedules_with_one_time_share_its_row(admin_user, file, capsys):
    file.write_text(
        "- {name: A, task: tests.anything, every: 9 minutes}\n- {name: B, task: tests.anything, every: 9 minutes}\n"
    )
    run(file, "--as", "admin", capsys=capsys)
    first, second = Schedule.objects.all()
    assert first.interval_id == second.interval_id


def test_a_row_that_cannot_run_is_exported_as_it_is(schedule, file, capsys):
    Schedule.objects.update(args="[1", headers="[]")
    call_command("export_schedules", str(file))
    assert yaml.safe_load(file.read_text())[0]["args"] == "[1"
    assert run(file, "--dry-run", capsys=capsys)[0] == 0  # unchanged
    Schedule.objects.all().delete()
    assert "args: Not valid JSON" in run(file, "--dry-run", capsys=capsys)[1]


def test_the_edit_of_a_schedule_that_is_placed_again_is_no_change(schedule):
    edit.place(schedule, schedule.timing)
    assert edit.save(schedule) == []


def test_times_are_read_however_yaml_has_them(schedule, admin_user, file, capsys):
    file.write_text(
        "- name: Ten\n  task: tests.anything\n  every: 10 minutes\n  start: 2030-01-01T09:00:00+09:00\n  end: '2031-01-01 00:00'\n"
        "  paused: {reason: audit, until: 2030-06-01 00:00:00+00:00}\n"
    )
    assert run(file, "--as", "admin", capsys=capsys)[0] == 0
    saved = spec_of(Schedule.objects.get())
    assert saved["start"] == "2030-01-01T00:00:00+00:00"
    assert saved["paused"] == {"reason": "audit", "until": "2030-06-01T00:00:00+00:00"}
    assert "1 unchanged" in run(file, "--dry-run", capsys=capsys)[1]
    file.write_text(
        "- {name: Ten, task: tests.anything, every: 10 minutes, paused: {reason: audit, until: 2020-01-01 00:00:00+00:00}}"
    )
    assert "Its end has passed." in run(file, "--dry-run", capsys=capsys)[1]


def test_a_cron_line_without_a_zone_is_in_that_of_celery(admin_user, file, capsys):
    file.write_text("- {name: A, task: tests.anything, cron: 0 9 * * *, timezone: Europe/Berlin}")
    run(file, "--as", "admin", capsys=capsys)
    file.write_text("- {name: A, task: tests.anything, cron: 0 9 * * *}")
    assert "timezone: Europe/Berlin → Asia/Tokyo" in run(file, "--dry-run", capsys=capsys)[1]
    run(file, "--as", "admin", capsys=capsys)
    assert "1 unchanged" in run(file, "--dry-run", capsys=capsys)[1]
