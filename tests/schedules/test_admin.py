from datetime import UTC, datetime, timedelta
from importlib import import_module
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest
from django.apps import apps
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, Permission
from django.core.management import call_command
from django.urls import reverse
from django.utils import timezone
from django_celery_results.models import TaskResult

from schedules import edit
from schedules.due import Cron
from schedules.models import Occurrence, Policy, Schedule
from schedules.spec import changes, spec_of
from schedules.trail import history

pytestmark = pytest.mark.django_db

LIST = "/schedules/schedule/"
ACTS = ("run", "enable", "disable", "pause", "resume")


def url(name, schedule):
    return reverse(f"admin:schedules_schedule_{name}", args=[schedule.pk])


@pytest.fixture
def boss(admin_user, client):
    client.force_login(admin_user)
    return client


def happened(schedule, status, *, minutes, took=2, state="sent", **facts):
    """An occurrence so many minutes ago, with its result."""
    due = timezone.now() - timedelta(minutes=minutes)
    one = Occurrence.objects.create(
        id=uuid4(), schedule_id=schedule.pk, name=schedule.name, due_at=due, state=state, **{"sent_at": due, **facts}
    )
    if status:
        result = TaskResult.objects.create(task_id=str(one.id), status=status, date_started=due)
        TaskResult.objects.filter(pk=result.pk).update(date_done=due + timedelta(seconds=took))
    return one


def messages(response):
    return [str(message) for message in response.context["messages"]]


def test_the_list_tells_state_words_last_run_outcome_and_next_run(boss, schedule):
    happened(schedule, "SUCCESS", minutes=20)
    happened(schedule, "FAILURE", minutes=10)
    html = boss.get(LIST).content.decode()
    assert 'data-state="on"' in html
    assert "Every 10 minutes" in html
    assert 'data-state="failed"' in html
    assert 'data-state="succeeded"' not in html
    assert "Last runs: 1 succeeded, 1 failed" in html
    assert "minutes from now" in html


def test_the_list_asks_the_database_as_often_for_two_rows_as_for_ten(boss, schedule, django_assert_max_num_queries):
    for number in range(9):
        Schedule.objects.create(name=f"S{number}", task="tests.anything", interval=schedule.interval)
    boss.get(LIST)
    with django_assert_max_num_queries(16):
        boss.get(LIST)


def test_the_list_is_searched_and_filtered(boss, schedule):
    Schedule.objects.create(name="Other", task="tests.total", interval=schedule.interval, enabled=False)
    assert "Other" not in boss.get(LIST, {"q": "anything"}).content.decode()
    assert "Other" in boss.get(LIST, {"q": "tests.total"}).content.decode()
    off = boss.get(LIST, {"state": "off"}).content.decode()
    assert "Other" in off
    assert ">Ten<" not in off


def test_a_row_that_cannot_run_says_why(boss, schedule):
    Schedule.objects.filter(pk=schedule.pk).update(args="[1")
    html = boss.get(LIST).content.decode()
    assert ">Broken<" in html
    assert "args is not JSON" in html
    assert boss.get(url("change", schedule)).status_code == 200


def test_half_a_character_in_a_row_breaks_no_page_and_no_export(boss, schedule, tmp_path):
    Schedule.objects.filter(pk=schedule.pk).update(args=r'["\ud800"]')
    for address in (LIST, url("change", schedule), url("history", schedule)):
        assert boss.get(address).status_code == 200
    call_command("export_schedules", str(tmp_path / "file"))
    assert r"\ud800" in (tmp_path / "file").read_text()


def test_a_start_at_the_end_of_time_breaks_no_page(boss, schedule):
    edit.place(schedule, Cron.parse("0 9 * * *", ZoneInfo("UTC")))
    edit.save(schedule)
    Schedule.objects.filter(pk=schedule.pk).update(start_time=datetime(9999, 1, 1, tzinfo=UTC))
    assert "Its time cannot be computed" in boss.get(LIST).content.decode()
    assert boss.get(url("change", schedule)).status_code == 200


def test_a_new_schedule_comes_from_the_form(boss, typed):
    response = boss.post(f"{LIST}add/", typed, follow=True)
    assert response.redirect_chain
    assert Schedule.objects.get().words == "At 09:00, Monday through Friday"
    assert LogEntry.objects.get().is_addition()


def test_an_edit_is_recorded_with_the_field_that_changed(boss, schedule, typed):
    boss.post(url("change", schedule), typed | {"name": "Ten"})
    entry = LogEntry.objects.get()
    assert "Cron line" in entry.get_change_message()  # also for those who read the admin's log
    assert "Task" in entry.get_change_message()


def test_what_is_refused_keeps_what_was_typed(boss, typed):
    response = boss.post(f"{LIST}add/", typed | {"cron": "0 0 30 2 *", "args": "[1"})
    html = response.content.decode()
    assert response.status_code == 200
    assert "0 0 30 2 *" in html
    assert "would never run" in html
    assert "line 1" in html
    assert not Schedule.objects.exists()


def test_the_preview_answers_what_is_typed(boss, schedule, typed):
    response = boss.get(f"{LIST}preview/", typed)
    html = response.content.decode()
    assert "At 09:00, Monday through Friday" in html
    assert html.count("<time") == 10
    assert "09:00<" in html.replace(" ", "").replace("\n", "")
    wrong = boss.get(f"{LIST}preview/", typed | {"cron": "0 0 * * 7"}).content.decode()
    assert "Write 0 for Sunday" in wrong
    assert "match both" in boss.get(f"{LIST}preview/", typed | {"cron": "0 0 13 * 5"}).content.decode()
    assert (
        "Every 10 minutes"
        in boss.get(
            url("preview_of", schedule), {"kind": "every", "every": 10, "period": "minutes", "timezone": "UTC"}
        ).content.decode()
    )
    assert Schedule.objects.count() == 1


def test_the_preview_ignores_every_other_mistake(boss, typed):
    assert "At 09:00" in boss.get(f"{LIST}preview/", typed | {"args": "[", "task": "x", "name": ""}).content.decode()


def test_disable_and_enable_are_recorded_once(boss, schedule):
    for name, enabled in (("disable", False), ("disable", False), ("enable", True), ("enable", True)):
        boss.post(url(name, schedule))
        assert Schedule.objects.get().enabled is enabled
    assert [act.words for act in history(schedule)] == ["Enabled.", "Disabled."]
    assert "Disabled." in boss.get(url("history", schedule)).content.decode()


def test_a_schedule_that_could_never_run_is_not_enabled(boss, schedule):
    Schedule.objects.update(enabled=False, headers="[]")
    response = boss.post(url("enable", schedule), follow=True)
    assert "headers must be a JSON object" in messages(response)[0]
    assert not Schedule.objects.get().enabled


def test_an_act_returns_to_the_list_as_it_was_filtered_but_never_to_another_site(boss, schedule):
    assert boss.post(url("disable", schedule), {"next": f"{LIST}?state=on"}).url == f"{LIST}?state=on"
    assert boss.post(url("enable", schedule), {"next": "https://evil.example/"}).url == LIST


@pytest.mark.parametrize("name", ACTS)
def test_an_act_is_no_link(boss, schedule, name):
    assert boss.get(url(name, schedule)).status_code == 405
    assert boss.post(url(name, schedule).replace(str(schedule.pk), "999999")).status_code == 404


@pytest.mark.parametrize("name", ACTS)
def test_an_act_needs_a_token(admin_user, schedule, name):
    from django.test import Client

    strict = Client(enforce_csrf_checks=True)
    strict.force_login(admin_user)
    assert strict.post(url(name, schedule)).status_code == 403
    assert not LogEntry.objects.exists()


@pytest.mark.parametrize(
    ("name", "needs"),
    [
        ("run", "run_schedule"),
        ("enable", "enable_schedule"),
        ("disable", "enable_schedule"),
        ("pause", "enable_schedule"),
        ("resume", "enable_schedule"),
    ],
)
def test_an_act_needs_its_permission(client, staff, schedule, name, needs):
    others = {"view_schedule", "run_schedule", "change_schedule", "enable_schedule"} - {needs}
    client.force_login(staff(*others))
    assert client.post(url(name, schedule)).status_code == 403
    assert Schedule.objects.get().enabled
    page = client.get(LIST).content.decode()
    assert url(name, schedule) not in page


def test_a_viewer_sees_facts_and_no_button(client, staff, schedule):
    client.force_login(staff("view_schedule"))
    page = client.get(url("change", schedule)).content.decode()
    assert "Every 10 minutes" in page
    assert "formaction" not in page
    assert 'name="_save"' not in page
    assert client.post(url("change", schedule), {}).status_code == 403
    assert client.get(url("preview_of", schedule)).status_code == 403
    assert client.get(f"{LIST}preview/").status_code == 403


def test_each_person_sees_the_buttons_of_their_permissions_alone(client, staff, schedule):
    client.force_login(staff("view_schedule", "enable_schedule"))
    page = client.get(url("change", schedule)).content.decode()
    assert url("disable", schedule) in page
    assert url("pause", schedule) in page
    assert url("run", schedule) not in page
    assert 'name="_save"' not in page
    assert "?like=" not in page
    assert client.post(url("change", schedule), {}).status_code == 403
    assert client.get(f"{LIST}add/").status_code == 403


def test_many_are_turned_off_at_once_by_those_who_may(client, staff, boss, schedule):
    Schedule.objects.create(name="Bad", task="tests.anything", interval=schedule.interval, enabled=False, headers="[]")
    chosen = {
        "action": ["enable_selected", "disable_selected"],
        "_selected_action": list(Schedule.objects.values_list("pk", flat=True)),
    }
    response = boss.post(LIST, {**chosen, "action": "disable_selected", "index": 0}, follow=True)
    assert "1 schedule was turned off." in messages(response)
    response = boss.post(LIST, {**chosen, "action": "enable_selected", "index": 0}, follow=True)
    assert "1 schedule was turned on." in messages(response)
    assert "headers must be a JSON object" in " ".join(messages(response))
    assert [act.words for act in history(schedule)] == ["Enabled.", "Disabled."]
    assert LogEntry.objects.count() == 2
    client.force_login(staff("view_schedule", "change_schedule"))
    assert "disable_selected" not in client.get(LIST).content.decode()
    client.post(LIST, {**chosen, "action": "disable_selected", "index": 0})
    assert Schedule.objects.get(name="Ten").enabled


def test_a_pause_has_a_reason_and_an_end_and_is_recorded(boss, schedule):
    refused = boss.post(url("pause", schedule), {"reason": ""}, follow=True)
    assert "not paused" in " ".join(messages(refused))
    past = boss.post(url("pause", schedule), {"reason": "audit", "until": "2020-01-01T00:00"}, follow=True)
    assert "has passed" in " ".join(messages(past))
    assert not Policy.objects.exists()
    boss.post(url("pause", schedule), {"reason": "audit", "until": "2030-01-01T09:00"})
    page = boss.get(url("change", schedule)).content.decode()
    assert "Paused" in page
    assert "audit" in page
    policy = Policy.objects.get()
    assert policy.paused_until.astimezone(schedule.zone).hour == 9
    boss.post(url("resume", schedule))
    assert Policy.objects.get().paused_at is None
    resumed, paused = history(schedule)
    assert paused.words.startswith("Paused until Tue 1 Jan 2030, ")
    assert paused.words.endswith(": audit")
    assert resumed.words == "Resumed."


def test_the_history_tells_who_changed_what_from_what_to_what(boss, schedule, typed):
    boss.post(url("change", schedule), typed | {"name": "Ten", "overlap": "skip"})
    boss.post(url("disable", schedule))
    page = boss.get(url("history", schedule)).content.decode()
    assert "<b>admin</b>" in page
    for before, after in (
        ("10 minutes", "–"),
        ("–", "0 9 * * 1-5"),
        ("tests.anything", "tests.total"),
        ("allow", "skip"),
    ):
        assert f'<del>{before}</del></td><td class="o-mono o-wrap"><ins>{after}</ins>' in page
    assert "Disabled." in page
    boss.post(url("change", schedule), typed | {"name": "Ten", "overlap": "skip", "enabled": ""})
    assert LogEntry.objects.count() == 2  # an edit that changes nothing is none


def test_the_history_is_for_those_who_may_view(client, staff, schedule):
    client.force_login(staff("run_schedule"))
    assert client.get(url("history", schedule)).status_code == 403
    client.force_login(staff("view_schedule", name="bob"))
    assert client.get(url("history", schedule)).status_code == 200
    assert client.get(f"{LIST}999999/history/").status_code == 404
    assert client.get(f"{LIST}none/history/").status_code == 404


def test_a_clone_is_a_new_one_filled_in_and_off(boss, schedule, typed):
    boss.post(f"{LIST}add/", typed | {"overlap": "skip", "headers": '{"a": 1}'})
    original = Schedule.objects.get(name="New")
    response = boss.get(f"{LIST}add/?like={original.pk}")
    form = response.context["adminform"].form
    shown = {name: form[name].value() for name in form.fields}
    assert (shown["name"], shown["enabled"]) == ("New (copy)", False)
    boss.post(f"{LIST}add/", {name: value for name, value in shown.items() if value not in {None, False}})
    copied = Schedule.objects.get(name="New (copy)")
    differ = [change.key for change in changes(spec_of(original), spec_of(copied))]
    assert differ == ["name", "enabled"]
    assert boss.get(f"{LIST}add/?like=999999").status_code == 404


def test_a_time_that_others_share_is_said_and_copied_when_it_is_changed(boss, schedule, typed):
    other = Schedule.objects.create(name="Other", task="tests.anything", interval=schedule.interval)
    assert "Another schedule is kept at the same time" in boss.get(url("change", schedule)).content.decode()
    boss.post(url("change", schedule), typed | {"name": "Ten", "kind": "every", "every": "7", "period": "minutes"})
    assert Schedule.objects.get(pk=other.pk).words == "Every 10 minutes"
    assert "at the same time" not in boss.get(url("change", schedule)).content.decode()


def test_the_fields_of_a_task_come_as_a_fragment(boss, schedule):
    page = boss.get(f"{LIST}parameters/", {"task": "tests.typed"}).content.decode()
    for name in ("count", "name", "ratio", "deep", "rest"):
        assert f'id="id_p-{name}"' in page
    assert "unknown here" in boss.get(f"{LIST}parameters/", {"task": "tests.typ"}).content.decode()
    assert "Choose a task" in boss.get(f"{LIST}parameters/").content.decode()
    Schedule.objects.update(task="tests.total", args="[5, 6]")
    assert 'value="6"' in boss.get(url("parameters_of", schedule), {"task": "tests.total"}).content.decode()


def test_a_person_sees_the_next_runs_on_their_own_clocks_too(boss, typed):
    boss.cookies["zone"] = "America/New_York"
    page = boss.get(f"{LIST}preview/", typed | {"cron": "0 9 1 7 *"}).content.decode()
    assert "09:00" in page
    assert "03:00" in page
    assert "America/New_York" in page
    boss.cookies["zone"] = "Europe/Berlin"
    assert "your clocks" not in boss.get(f"{LIST}preview/", typed).content.decode()
    boss.cookies["zone"] = "No/Where"
    assert boss.get(f"{LIST}preview/", typed).status_code == 200


def test_a_change_of_the_clocks_is_marked_in_the_next_runs(boss, typed):
    page = boss.get(f"{LIST}preview/", typed | {"cron": "0 12 * 3 *", "timezone": "Europe/Berlin"}).content.decode()
    assert "clocks change" not in page
    page = boss.get(
        f"{LIST}preview/", typed | {"cron": "0 12 26-31 3,4 *", "timezone": "Europe/Berlin"}
    ).content.decode()
    assert page.count("clocks change") == 1
    assert "CEST" in page


def test_a_stranger_is_sent_to_the_login(client, schedule):
    assert "/login/" in client.post(url("run", schedule)).url
    assert "/login/" in client.get(f"{LIST}preview/").url


def test_deleting_asks_and_tells_beat(boss, schedule):
    from django_celery_beat.models import PeriodicTasks

    before = PeriodicTasks.last_change()
    chosen = {"action": "delete_selected", "_selected_action": [schedule.pk], "index": 0}
    asked = boss.post(LIST, chosen)
    assert "Are you sure" in asked.content.decode()
    assert Schedule.objects.exists()
    boss.post(LIST, chosen | {"post": "yes"})
    assert not Schedule.objects.exists()
    assert PeriodicTasks.last_change() > before
    assert LogEntry.objects.get().is_deletion()


def test_the_stock_screens_are_gone(boss):
    for name in ("periodictask", "crontabschedule", "intervalschedule", "solarschedule", "clockedschedule"):
        assert boss.get(f"/django_celery_beat/{name}/").status_code == 404


def test_no_page_has_an_inline_script_or_style(boss, schedule):
    for page in (LIST, f"{LIST}add/", url("change", schedule), url("history", schedule), url("delete", schedule)):
        html = boss.get(page).content.decode()
        assert "<style" not in html
        assert " style=" not in html
        assert "<script>" not in html
        assert " on" + "click=" not in html


def test_whoever_could_change_schedules_may_go_on_enabling_them(staff):
    migration = import_module("schedules.migrations.0006_enable_permission")
    user = staff("change_schedule")
    group = Group.objects.create(name="Editors")
    group.permissions.set(user.user_permissions.all())
    viewers = Group.objects.create(name="Viewers")
    viewers.permissions.set(Permission.objects.filter(codename="view_schedule"))
    migration.grant(apps, None)
    assert user.has_perm("schedules.enable_schedule")
    assert group.permissions.filter(codename="enable_schedule").exists()
    assert not viewers.permissions.filter(codename="enable_schedule").exists()
