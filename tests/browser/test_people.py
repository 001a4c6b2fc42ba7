"""A walk of each person who lives in the console: the viewer, the responder, the operator, the engineer."""

import gzip
import re

import pytest
from celery import chain
from django.contrib.auth.models import Group, Permission
from playwright.sync_api import expect

from config import groups
from deadletters.models import DeadLetter, State
from monitoring.models import PausedQueue
from monitoring.workers import pings
from pipelines import runs
from pipelines.registry import pipeline
from tests.deadletters.letters import crowd, letter
from tests.tasks import sleep

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def person(opened, login, django_user_model):
    """`person("Operators")`: a browser in which a member of that group is signed in; `person()` may only look."""

    def sign_in(group=""):
        groups.seed()
        user = django_user_model.objects.create_user(f"one-of-{group or 'viewers'}", is_staff=True)
        if group:
            user.groups.add(Group.objects.get(name=group))
        else:
            looks = Permission.objects.filter(codename__startswith="view_")
            user.user_permissions.set(looks)
        page = opened()
        login(page.context, user)
        return page

    return sign_in


def test_a_viewer_sees_everything_and_can_change_nothing(person, shoot):
    crowd(8)
    page = person()
    page.goto("/")
    links = page.locator("#nav-sidebar .o-nav:not(.o-more) a")
    for name in links.all_inner_texts():
        links.filter(has_text=re.compile(rf"^\s*{re.escape(name.strip())}\s*$")).first.click()
        expect(page.locator("#nav-sidebar .o-nav:not(.o-more) a[aria-current]")).to_have_text(name)
        acts = page.locator("main form[method=post] button, main button[form=o-post]")
        assert acts.count() == 0, name
        shoot(page, f"viewer-{name.strip().lower().replace(' ', '-')}")


def test_a_responder_replays_a_letter_with_the_keyboard_alone(person):
    wanted = letter(0, task_name="shop.wanted", exception_message="the one with zanzibar in it")
    letter(1)
    page = person("Responders")
    page.goto("/deadletters/deadletter/")
    page.keyboard.press("/")
    page.keyboard.type("zanzi")
    page.keyboard.press("Enter")
    page.wait_for_url("**q=zanzi**")
    page.locator("h1").click()
    page.keyboard.press("j")
    assert "shop.wanted" in page.evaluate("document.activeElement.closest('tr').textContent")
    page.keyboard.press("r")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Traceback")).to_be_visible()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("Keyboard")
    page.keyboard.press("Escape")
    wanted.refresh_from_db()
    assert wanted.state == State.OPEN
    assert DeadLetter.objects.open().count() == 2


@pytest.mark.worker
def test_an_operator_starts_watches_and_cancels_a_run_and_pauses_a_queue(person, worker, monkeypatch, shoot):
    monkeypatch.setattr("pipelines.registry._pipelines", dict(runs.registry._pipelines))

    @pipeline(name="slow")
    def slow():
        """Sleeps in a row."""
        return chain(sleep.si(1), sleep.si(30), sleep.si(1))

    pings.forget()
    page = person("Operators")
    page.goto("/pipelines/run/")
    page.get_by_role("link", name="Start a pipeline").first.click()
    page.get_by_role("link", name="Start slow").click()
    page.get_by_role("button", name="Start slow").click()
    expect(page.locator(".o-chip-l")).to_have_text("running", timeout=30_000)
    page.get_by_role("link", name="Timeline").click()
    expect(page.locator(".o-gantt tbody tr")).to_have_count(3)
    expect(page.locator(".o-gantt [data-state=running]")).to_have_count(1, timeout=30_000)
    shoot(page, "operator-timeline")
    page.locator("#cancel-run").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel run").click()
    expect(page.locator(".messagelist")).to_contain_text("will not run any more")

    page.goto("/workers/")
    expect(page.locator(".o-workers")).to_contain_text(worker.name)
    shoot(page, "operator-workers")
    page.get_by_role("button", name="Pause default").click()
    page.get_by_role("dialog").get_by_role("button", name="Pause").click()
    expect(page.locator(".messagelist")).to_contain_text("is paused")
    assert PausedQueue.objects.get().by == "one-of-Operators"
    page.get_by_role("button", name="Resume default").click()
    expect(page.locator(".messagelist")).to_contain_text("goes on")
    assert not PausedQueue.objects.exists()


def test_an_engineer_goes_from_the_dashboard_to_the_line_of_code_and_reads_on(person):
    letter(0)
    page = person("Responders")
    page.goto("/")
    page.locator(".o-errors a.o-name").first.click()
    page.locator("#result_list .field-task a").first.click()
    expect(page.locator(".o-frame").first).to_be_visible()
    page.locator("details.o-menu summary").click()
    page.get_by_role("link", name="Help").last.click()
    expect(page.get_by_role("heading", name="Something is dead")).to_be_visible()
    page.locator("details.o-menu summary").click()
    page.get_by_role("button", name="日本語").click()
    expect(page.locator("html")).to_have_attribute("lang", "ja")
    expect(page.get_by_role("link", name="デッドレター", exact=True).first).to_be_visible()


@pytest.mark.parametrize("path", ["/", "/deadletters/deadletter/", "/workers/"])
def test_a_first_load_is_light_and_asks_nobody_else(path, page, live_server):
    crowd(14)
    answers = []
    page.on("response", lambda answer: answers.append(answer))  # noqa: PLW0108  (Playwright wraps it, and cannot wrap a builtin)
    page.goto(path)
    page.wait_for_load_state("networkidle")
    assert all(answer.url.startswith((live_server.url, "data:")) for answer in answers)
    compressed = {answer.url: len(gzip.compress(answer.body())) for answer in answers if answer.status == 200}
    assert sum(compressed.values()) < 100_000, compressed


@pytest.mark.parametrize(("path", "name"), [("/workers/", "workers"), ("/monitoring/delivery/", "alerts"), ("/help/", "help"), ("/help/words/", "words")])  # fmt: skip
def test_the_smaller_screens_are_fit_for_everybody(path, name, examine):
    examine(path, name)
