"""The story of the README in a real browser, against `manage.py up`: start, one image dies, look, mend, replay, all three arrive."""

import re

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import DESKTOP, fits
from tests.platform import a_platform
from tests.processes import eventually

pytestmark = [pytest.mark.worker, pytest.mark.timeout(900)]

# Milliseconds; the whole platform shares two cores with the browser.
PATIENCE = 90_000


@pytest.fixture(scope="module")
def platform():
    with a_platform() as platform:
        platform.start()
        yield platform
        platform.stop()


@pytest.fixture
def visitor(browser, platform):
    """A person's browser at the platform's address; any complaint of the browser fails the test."""
    complaints = []
    context = browser.new_context(base_url=platform.url, viewport={"width": DESKTOP[0], "height": DESKTOP[1]})
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    page.on("console", lambda said: complaints.append(f"{page.url}: {said.text}") if said.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(f"{page.url}: {error}"))
    yield page
    context.close()
    assert complaints == []


def sign_in(page, platform):
    page.goto("/")
    page.get_by_label("Username").fill("admin")
    page.get_by_label("Password").fill(platform.password)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", name="Dashboard")).to_be_visible()


def chip(page, text):
    return page.locator(".o-chip-l").filter(has_text=re.compile(text, re.IGNORECASE))


def test_a_new_user_brings_back_a_chord(visitor, platform, shoot):
    page = visitor
    sign_in(page, platform)
    shoot(page, "story-dashboard-empty")

    page.get_by_role("link", name="Pipeline runs", exact=True).first.click()
    page.get_by_role("link", name=re.compile("Start a run|New run|Start")).first.click()
    page.get_by_role("link", name="Start images").click()
    expect(page.get_by_label(re.compile("urls", re.IGNORECASE))).to_have_value(re.compile("mountain.jpg"))
    page.get_by_role("button", name=re.compile("^Start")).click()

    expect(chip(page, "failed")).to_be_visible(timeout=PATIENCE)
    for state, number in {"succeeded": 6, "dead": 1, "blocked": 3}.items():
        expect(page.locator(f".o-counts .o-chip[data-state={state}]")).to_have_text(
            re.compile(rf"^{number}\b"), timeout=PATIENCE
        )
    assert fits(page)
    shoot(page, "run", full_page=False)
    run_url = page.url

    page.locator("section", has=page.get_by_role("heading", name="Failed steps")).get_by_role("link").first.click()
    expect(page.get_by_role("heading", name="Traceback")).to_be_visible()
    expect(page.get_by_text("mountain.jpg").first).to_be_visible()
    shoot(page, "story-letter")

    assert platform.manage("make_sample", "mountain.jpg").returncode == 0
    page.get_by_role("button", name="Replay", exact=True).first.click()
    page.get_by_role("dialog").get_by_role("button", name="Replay").click()
    page.wait_for_load_state()

    page.goto(run_url)
    expect(chip(page, "succeeded")).to_be_visible(timeout=PATIENCE)
    expect(page.locator(".o-counts .o-chip[data-state=succeeded]")).to_have_text(re.compile(r"^10\b"))
    expect(page.get_by_text('"images": 3')).to_be_visible()
    shoot(page, "story-run-done")
    assert len(list((platform.var / "uploads").glob("*"))) == 3


def test_a_schedule_edited_in_the_admin_takes_effect(visitor, platform, shoot):
    page = visitor
    sign_in(page, platform)
    page.get_by_role("link", name="Schedules", exact=True).first.click()
    shoot(page, "story-schedules")
    page.get_by_role("link", name="Example with arguments").click()
    page.get_by_label("On: it runs at these times").check()
    page.locator("[name=every]").fill("1")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator(".messagelist .success")).to_be_visible()
    code = "from django_celery_results.models import TaskResult as T; print(T.objects.filter(task_name='monitoring.echo').count())"
    eventually(lambda: int(platform.manage("shell", "--no-imports", "-c", code).stdout.splitlines()[-1]) >= 2)
