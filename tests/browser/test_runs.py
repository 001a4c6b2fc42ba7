import pytest
from celery import chain, chord, group
from playwright.sync_api import expect

from deadletters.models import DeadLetter
from pipelines import runs
from pipelines.registry import pipeline
from tests.processes import eventually
from tests.tasks import collect, die, die_unless, echo, sleep

pytestmark = [pytest.mark.worker, pytest.mark.django_db(transaction=True)]


@pytest.fixture(autouse=True)
def shapes(monkeypatch):
    """Pipelines of these tests alone."""
    monkeypatch.setattr("pipelines.registry._pipelines", dict(runs.registry._pipelines))

    @pipeline(name="wide-and-dead")
    def wide_and_dead(width: int = 9):
        """A picture with everything in it."""
        wide = [chain(echo.si(number), die.si() if number == 5 else echo.s()) for number in range(width)]
        return chain(echo.si(0), group(echo.si(1), echo.si(2) | echo.s()), chord(wide, collect.s()), echo.s())

    @pipeline(name="slow")
    def slow():
        return chain(sleep.si(1), sleep.si(3), sleep.si(1))


@pytest.fixture
def held_up(shapes, tmp_path):
    """A pipeline whose chord has one member that dies until the file is there: (its name, the file)."""
    wanted = tmp_path / "wanted"

    @pipeline(name="held-up")
    def held_up():
        """One of three dies."""
        return chord([echo.si(1), die_unless.si(str(wanted), 2), echo.si(3)], collect.s())

    return "held-up", wanted


def start_and_wait(name, **parameters):
    run = runs.start(name, parameters)
    return run, list(runs.follow(run, every=0.1, timeout=60))[-1]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("", "runs"),
        ("?pipeline=slow", "runs-none"),
        ("add/", "run-choose"),
        ("add/?pipeline=images", "run-start"),
    ],
)
def test_list_and_forms_are_fit_for_everybody(worker, examine, path, name):
    start_and_wait("arithmetic")
    examine(f"/pipelines/run/{path}", name)


@pytest.mark.parametrize("pipeline_name", ["wide-and-dead", "arithmetic"])
def test_the_page_of_a_run_is_fit_for_everybody(worker, examine, pipeline_name):
    run, progress = start_and_wait(pipeline_name)
    assert not progress.dead or eventually(DeadLetter.objects.exists)
    examine(f"/pipelines/run/{run.pk}/change/", f"run-{pipeline_name}")


def test_the_page_follows_its_run_to_the_end(worker, page):
    run = runs.start("slow", {})
    page.goto(f"/pipelines/run/{run.pk}/change/")
    expect(page.locator(".o-chip-l")).to_have_text("running", timeout=20_000)
    expect(page.locator(".o-chip-l")).to_have_text("succeeded", timeout=30_000)
    expect(page.locator("#h-result")).to_be_visible()


def test_cancel_asks_first_and_then_cancels(worker, page):
    run = runs.start("slow", {})
    page.goto(f"/pipelines/run/{run.pk}/change/")
    page.locator("#cancel-run").click()
    expect(page.get_by_role("dialog")).to_contain_text("Cancel this run?")
    page.get_by_role("dialog").get_by_role("button", name="Cancel run").click()
    expect(page.locator(".messagelist")).to_contain_text("will not run any more")
    expect(page.locator(".o-chip-l")).to_have_text("cancelled", timeout=30_000)


def test_a_blocked_step_runs_when_the_dead_one_is_replayed_from_its_node(worker, page, held_up):
    name, wanted = held_up
    run, _progress = start_and_wait(name)
    page.goto(f"/pipelines/run/{run.pk}/change/")
    node = page.locator(".o-dag g[data-s]")
    dead, blocked = node.filter(has_text="die_unless"), node.filter(has_text="collect")
    expect(dead).to_have_attribute("data-s", "dead", timeout=20_000)
    expect(blocked).to_have_attribute("data-s", "blocked")
    expect(blocked).to_contain_text("blocked")
    wanted.touch()
    dead.get_by_role("button", name="Replay").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("what waits behind it goes on")
    dialog.get_by_role("button", name="Replay").click()
    expect(page.locator(".messagelist .success")).to_be_visible()
    # The page follows it by itself.
    expect(page.locator(".o-chip-l")).to_have_text("succeeded", timeout=30_000)
    expect(blocked).to_have_attribute("data-s", "succeeded")
    expect(page.locator("#h-result + pre")).to_contain_text("2")
    expect(page.locator("section", has=page.locator("#h-acts"))).to_contain_text("ana")


def test_without_scripts_the_page_still_acts(worker, opened, login, staff):
    run = runs.start("slow", {})
    plain = opened(java_script_enabled=False)
    login(plain.context, staff)
    plain.goto(f"/pipelines/run/{run.pk}/change/")
    plain.locator("#cancel-run").click()
    expect(plain.locator(".messagelist")).to_contain_text("will not run any more")
