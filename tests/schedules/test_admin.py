import pytest
from django.contrib.admin.models import LogEntry
from django.urls import reverse
from django_celery_results.models import TaskResult

from schedules.models import Schedule

pytestmark = pytest.mark.django_db

LIST = "/schedules/schedule/"


def url(name, schedule):
    return reverse(f"admin:schedules_schedule_{name}", args=[schedule.pk])


@pytest.fixture
def boss(admin_user, client):
    client.force_login(admin_user)
    return client


def messages(response):
    return [str(message) for message in response.context["messages"]]


def test_the_list_tells_state_words_last_run_outcome_and_next_run(boss, schedule):
    TaskResult.objects.create(task_id="old", periodic_task_name="Ten", status="SUCCESS")
    TaskResult.objects.create(task_id="new", periodic_task_name="Ten", status="FAILURE")
    html = boss.get(LIST).content.decode()
    assert 'data-state="on"' in html
    assert "Every 10 minutes" in html
    assert 'data-state="FAILURE"' in html
    assert 'data-state="SUCCESS"' not in html
    assert "minutes from now" in html


def test_the_list_asks_the_database_as_often_for_two_rows_as_for_ten(boss, schedule, django_assert_max_num_queries):
    for number in range(9):
        Schedule.objects.create(name=f"S{number}", task="tests.anything", interval=schedule.interval)
    boss.get(LIST)
    with django_assert_max_num_queries(12):
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
    assert "Cannot run" in html
    assert "args is not JSON" in html
    assert boss.get(url("change", schedule)).status_code == 200


def test_a_new_schedule_comes_from_the_form(boss, typed):
    response = boss.post(f"{LIST}add/", typed, follow=True)
    assert response.redirect_chain
    assert Schedule.objects.get().words == "At 09:00, Monday through Friday"
    assert LogEntry.objects.get().is_addition()


def test_an_edit_is_recorded_with_the_field_that_changed(boss, schedule, typed):
    boss.post(url("change", schedule), typed | {"name": "Ten"})
    entry = LogEntry.objects.get()
    assert "Cron line" in entry.get_change_message()
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
    trail = [entry.change_message for entry in LogEntry.objects.order_by("pk")]
    assert trail == ["Disabled.", "Enabled."]
    assert "Disabled." in boss.get(url("history", schedule)).content.decode()


def test_a_schedule_that_could_never_run_is_not_enabled(boss, schedule):
    Schedule.objects.update(enabled=False, headers="[]")
    response = boss.post(url("enable", schedule), follow=True)
    assert "headers must be a JSON object" in messages(response)[0]
    assert not Schedule.objects.get().enabled


def test_an_act_returns_to_the_list_as_it_was_filtered_but_never_to_another_site(boss, schedule):
    assert boss.post(url("disable", schedule), {"next": f"{LIST}?state=on"}).url == f"{LIST}?state=on"
    assert boss.post(url("enable", schedule), {"next": "https://evil.example/"}).url == LIST


@pytest.mark.parametrize("name", ["run", "enable", "disable"])
def test_an_act_is_no_link(boss, schedule, name):
    assert boss.get(url(name, schedule)).status_code == 405
    assert boss.post(url(name, schedule).replace(str(schedule.pk), "999999")).status_code == 404


@pytest.mark.parametrize("name", ["run", "enable", "disable"])
def test_an_act_needs_a_token(admin_user, schedule, name):
    from django.test import Client

    strict = Client(enforce_csrf_checks=True)
    strict.force_login(admin_user)
    assert strict.post(url(name, schedule)).status_code == 403
    assert not LogEntry.objects.exists()


@pytest.mark.parametrize(
    ("name", "needs"), [("run", "run_schedule"), ("enable", "change_schedule"), ("disable", "change_schedule")]
)
def test_an_act_needs_its_permission(client, staff, schedule, name, needs):
    others = {"view_schedule", "run_schedule", "change_schedule"} - {needs}
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
