import json
import uuid
from datetime import timedelta

import pytest
from django.utils import timezone
from django_celery_results.models import TaskResult
from playwright.sync_api import expect

from deadletters.models import Cause, DeadLetter, State
from tests.deadletters.letters import crowd, letter

LETTERS = "/deadletters/deadletter/"


@pytest.fixture
def letters(transactional_db):
    return crowd(14)


@pytest.fixture
def result(transactional_db):
    return TaskResult.objects.create(
        task_id=str(uuid.uuid4()), task_name="shop.price_partition", task_args=json.dumps("(236263,)"),
        task_kwargs=json.dumps("{'day': '2026-10-17'}"), status="SUCCESS", worker="prices-1@node1",
        result=json.dumps({"rows": 480}), date_started=timezone.now() - timedelta(seconds=3),
        content_type="application/json", content_encoding="utf-8",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (LETTERS + "by-error/", "letters-by-error"),
        (LETTERS, "letters-open"),
        (LETTERS + "?state=all&cause=exception", "letters-all"),
        (LETTERS + "?state=discarded", "letters-discarded"),
        (LETTERS + "?q=zz", "letters-search-refused"),
    ],
)
def test_lists_of_letters_are_fit_for_everybody(letters, examine, path, name):
    examine(path, name)


def test_empty_lists_say_what_would_be_here(examine):
    examine(LETTERS, "letters-none")
    examine(LETTERS + "by-error/", "letters-by-error-none")


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("letter", {}),
        ("letter-discarded", {"state": State.DISCARDED}),
        ("letter-unreadable", {"task_name": "", "cause": Cause.UNDECODABLE, "body": b"\x00\xff\xfe", "traceback": ""}),
        ("letter-long", {"exception_message": "x" * 5000, "task_name": "a." * 100, "task_id": "y" * 200}),
    ],
)
def test_the_page_of_a_letter_is_fit_for_everybody(examine, transactional_db, worker, name, fields):
    made = letter(**fields)
    examine(f"{LETTERS}{made.pk}/change/", name)


def test_results_are_fit_for_everybody(result, examine):
    examine("/django_celery_results/taskresult/", "results")
    examine(f"/django_celery_results/taskresult/{result.pk}/change/", "result")


def test_the_login_page_is_fit_for_everybody(examine, transactional_db):
    examine("/login/", "login", user=None)


@pytest.mark.parametrize("path", ["/auth/user/", "/auth/group/", "/password_change/", "/auth/group/add/"])
def test_pages_of_django_complain_about_nothing(page, path):
    page.goto(path)


def test_ticked_rows_name_their_number(letters, page):
    page.goto(LETTERS)
    replay = page.locator(".o-acts button").first
    assert replay.is_disabled()
    boxes = page.locator("input.action-select")
    boxes.nth(0).check()
    boxes.nth(1).check()
    expect(replay).to_have_text("Replay 2")


def test_the_dialog_begins_at_cancel_and_escape_leaves_everything_as_it_was(letters, page):
    page.goto(LETTERS)
    before = DeadLetter.objects.open().count()
    button = page.locator("#result_list button").first
    button.click()
    assert page.evaluate("document.activeElement.textContent") == "Cancel"
    page.keyboard.press("Escape")
    assert page.locator("dialog[open]").count() == 0
    assert page.evaluate("document.activeElement.textContent") == "Replay"
    assert DeadLetter.objects.open().count() == before


def test_a_row_is_replayed_through_the_dialog(transactional_db, page):
    made = letter()
    page.goto(LETTERS)
    page.locator("#result_list button").click()
    page.locator("dialog[open] .o-btn-p").click()
    page.wait_for_selector(".messagelist .success")
    made.refresh_from_db()
    assert made.state == State.REPLAYING
    assert made.events.get(kind="replayed").actor.username == "ana"


def test_without_javascript_ticked_rows_can_be_discarded_with_a_reason(transactional_db, opened, login, staff):
    made = [letter(number) for number in range(3)]
    page = opened(java_script_enabled=False)
    login(page.context, staff)
    page.goto(LETTERS)
    page.locator("input.action-select").nth(0).check()
    page.locator("input.action-select").nth(2).check()
    page.get_by_role("button", name="Discard selected").click()
    page.get_by_label("Reason").fill("shop closed")
    page.get_by_role("button", name="Discard 2").click()
    page.wait_for_selector(".messagelist .success")
    assert [DeadLetter.objects.get(pk=one.pk).state for one in made] == ["discarded", "open", "discarded"]


def test_somebody_who_may_only_look_sees_no_button(letters, opened, login, django_user_model):
    from django.contrib.auth.models import Permission

    viewer = django_user_model.objects.create_user("eve", is_staff=True)
    viewer.user_permissions.add(Permission.objects.get(codename="view_deadletter"))
    page = opened()
    login(page.context, viewer)
    for path in (LETTERS, LETTERS + "by-error/", f"{LETTERS}{letters[0].pk}/change/"):
        page.goto(path)
        assert page.locator("main button", has_text="Replay").count() == 0
        assert page.locator("main .o-btn-d").count() == 0
    assert page.locator(".o-nav:not(.o-more) a").all_inner_texts() == ["Dashboard", "Dead letters", "Help"]
