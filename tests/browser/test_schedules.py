import json
from datetime import timedelta
from uuid import uuid4

import pytest
from django.utils import timezone
from django_celery_results.models import TaskResult

from schedules import edit
from schedules.due import Every
from schedules.models import Occurrence, Schedule
from schedules.pause import pause
from schedules.seed import seed

LIST = "/schedules/schedule/"


@pytest.fixture
def schedules(transactional_db):
    seed()
    broken = Schedule(name="Broken", task="monitoring.echo", headers="[]")
    edit.place(broken, Every.parse(10, "minutes"))
    edit.save(broken)
    found = Schedule.objects.in_bulk(field_name="name")
    happen(found["Heartbeat"])
    return found


def happen(schedule):
    """Every kind of occurrence, one a minute."""
    marks = [("sent", "SUCCESS"), ("skipped", ""), ("sent", "SUCCESS"), ("missed", ""), ("refused", ""), ("sent", "FAILURE"),
             ("sent", "STARTED"), ("waiting", ""), ("sent", "SUCCESS"), ("sent", "REVOKED"), ("claimed", ""), ("sent", "")]  # fmt: skip
    for number, (state, status) in enumerate(marks * 3, 1):
        due = timezone.now() - timedelta(minutes=number)
        late = timedelta(seconds=40 if number == 3 else 0)
        reason = {"skipped": "The run before is still alive.", "missed": "Beat was away from 09:00 to 09:40; older than the grace time.",
                  "refused": "headers must be a JSON object."}.get(state, "Caught up." if late else "")  # fmt: skip
        one = Occurrence.objects.create(id=uuid4(), schedule_id=schedule.pk, name=schedule.name, due_at=due, state=state, reason=reason,
                                        sent_at=due + late if state == "sent" else None, by="ana" if number == 5 else "")  # fmt: skip
        if status:
            TaskResult.objects.create(task_id=str(one.id), status=status, date_started=due)


def changed(schedule):
    schedule.description, schedule.priority = (
        "Another description, of some length, so that it has to be broken into lines on a phone.",
        3,
    )
    return schedule


def test_the_schedules_are_fit_for_everybody(schedules, examine, staff):
    examine(LIST, "schedules")
    examine(f"{LIST}?q=zzz", "schedules-none")
    examine(f"{LIST}{schedules['Weekday digest'].pk}/change/", "schedule")
    examine(f"{LIST}{schedules['Broken'].pk}/change/", "schedule-broken")
    examine(f"{LIST}{schedules['Heartbeat'].pk}/change/", "schedule-busy")
    examine(f"{LIST}add/", "schedule-new")
    edit.save(changed(schedules["Heartbeat"]), by=staff)
    edit.switch(schedules["Heartbeat"], on=False, by=staff)
    examine(f"{LIST}{schedules['Heartbeat'].pk}/history/", "schedule-history")
    examine(f"{LIST}?state=late", "schedules-late")
    pause(schedules["Weekday digest"], reason="The accounts are being closed.", by=staff)
    examine(f"{LIST}{schedules['Weekday digest'].pk}/change/", "schedule-paused")


def test_the_next_runs_follow_what_is_typed(schedules, page):
    page.goto(f"{LIST}{schedules['Weekday digest'].pk}/change/")
    runs = page.locator("#runs")
    page.fill("#id_cron", "*/15 6-20 * * 1-5")
    runs.get_by_text("Every 15 minutes, between 06:00 and 20:59").wait_for()
    assert runs.locator("li").count() == 10
    page.fill("#id_cron", "0 0 30 2 *")
    runs.get_by_text("would never run").wait_for()
    page.check("[name=kind][value=every]")
    runs.get_by_text("Every 5 minutes").wait_for()
    assert not page.locator("#id_cron").is_visible()
    assert page.locator("#id_every").is_visible()


def test_the_fields_of_the_arguments_follow_the_task(schedules, page):
    page.goto(f"{LIST}add/")
    page.fill("#id_name", "Typed")
    page.fill("#id_task", "tests.typed")
    page.locator("#id_p-count").wait_for()
    assert page.locator("#parameters input, #parameters select").count() == 5
    page.fill("#id_p-count", "three")
    page.fill("#id_p-name", "a text")
    page.click("[name=_continue]")
    assert "A whole number" in page.inner_text("#id_p-count_error")
    page.fill("#id_p-count", "3")
    page.click("[name=_continue]")
    page.get_by_text("was added successfully").wait_for()
    assert json.loads(Schedule.objects.get(name="Typed").kwargs) == {"count": 3, "name": "a text"}
    page.check("[name=arguments][value=json]")
    assert page.locator("#id_kwargs").is_visible()
    assert not page.locator("#parameters").is_visible()


def test_a_pause_a_clone_and_the_browsers_clocks(schedules, opened, login, staff):
    page = opened(timezone_id="America/New_York")
    login(page.context, staff)
    digest = f"{LIST}{schedules['Weekday digest'].pk}/change/"
    page.goto(digest)
    page.goto(digest)  # from the second page on the server knows the browser's zone
    page.get_by_text("your clocks, America/New_York").wait_for()
    page.click("text=Pause it for a while")
    page.fill("#pause_reason", "The accounts are being closed.")
    page.get_by_role("button", name="Pause", exact=True).click()
    page.get_by_text("“Weekday digest” is paused.").wait_for()
    page.get_by_role("button", name="Resume").click()
    page.get_by_text("“Weekday digest” goes on.").wait_for()
    page.wait_for_load_state()  # the page's script moves what is below its first lines
    page.get_by_role("link", name="Clone").click()
    page.wait_for_url("**/add/?like=*")
    page.locator("#id_name[value='Weekday digest (copy)']").wait_for()
    assert not page.is_checked("#id_enabled")
    page.click("[name=_save]")
    page.get_by_text("was added successfully").wait_for()
    assert not Schedule.objects.get(name="Weekday digest (copy)").enabled


def test_without_javascript_the_form_says_what_is_wrong_and_when_it_runs(schedules, opened, login, staff):
    page = opened(java_script_enabled=False)
    login(page.context, staff)
    page.goto(f"{LIST}add/")
    page.fill("#id_name", "Plain")
    page.fill("#id_task", "monitoring.ech")
    page.check("[name=arguments][value=json]")
    page.fill("#id_args", "[1")
    page.click("[name=_continue]")
    assert "Did you mean monitoring.echo" in page.inner_text("#id_task_error")
    assert "line 1" in page.inner_text("#id_args_error")
    page.fill("#id_task", "monitoring.echo")
    page.fill("#id_args", "[1]")
    page.click("[name=_continue]")
    assert page.inner_text("h1") == "Plain"
    assert "Every day at 09:00" in page.inner_text("#runs")


def test_run_now_asks_first_and_disable_is_one_click(schedules, page):
    page.goto(f"{LIST}?state=on")
    page.get_by_role("button", name="Disable Heartbeat").click()
    page.get_by_text("“Heartbeat” is off.").wait_for()
    assert page.url.endswith("?state=on")
    page.goto(f"{LIST}{schedules['Daily report'].pk}/change/")
    page.click("text=Run now")
    page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    assert not Schedule.objects.get(name="Heartbeat").enabled
    page.click("text=Run now")
    page.get_by_role("dialog").get_by_role("button", name="Run now").click()
    page.get_by_text("was sent as task").wait_for()


def test_without_javascript_each_parameter_is_asked_for(opened, login, staff):
    page = opened(java_script_enabled=False)
    login(page.context, staff)
    page.goto(f"{LIST}add/")
    page.fill("#id_name", "Plain")
    page.fill("#id_task", "tests.total")
    page.click("[name=_continue]")
    assert "It is needed." in page.inner_text("#id_p-first_error")
    page.fill("#id_p-first", "1")
    page.fill("#id_p-second", "2")
    page.click("[name=_continue]")
    assert page.inner_text("h1") == "Plain"
    assert json.loads(Schedule.objects.get().kwargs) == {"first": 1, "second": 2}
