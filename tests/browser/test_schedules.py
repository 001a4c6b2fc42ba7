import pytest

from schedules import edit
from schedules.due import Every
from schedules.models import Schedule
from schedules.seed import seed

LIST = "/schedules/schedule/"


@pytest.fixture
def schedules(transactional_db):
    seed()
    broken = Schedule(name="Broken", task="monitoring.echo", headers="[]")
    edit.place(broken, Every.parse(10, "minutes"))
    edit.save(broken)
    return Schedule.objects.in_bulk(field_name="name")


def test_the_schedules_are_fit_for_everybody(schedules, examine):
    examine(LIST, "schedules")
    examine(f"{LIST}?q=zzz", "schedules-none")
    examine(f"{LIST}{schedules['Weekday digest'].pk}/change/", "schedule")
    examine(f"{LIST}{schedules['Broken'].pk}/change/", "schedule-broken")
    examine(f"{LIST}add/", "schedule-new")


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


def test_without_javascript_the_form_says_what_is_wrong_and_when_it_runs(schedules, opened, login, staff):
    page = opened(java_script_enabled=False)
    login(page.context, staff)
    page.goto(f"{LIST}add/")
    page.fill("#id_name", "Plain")
    page.fill("#id_task", "monitoring.ech")
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
