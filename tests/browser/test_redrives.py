"""The screens of errors, redrives, edits and the audit trail, in a real Chromium."""

import pytest

from deadletters import audit
from deadletters.models import Act, ErrorGroup, Redrive, RedriveItem, State
from deadletters.redrive import redrive
from deadletters.redrive.redrive import Conditions
from deadletters.selection import Selection
from tests.deadletters.letters import crowd, letter

LETTERS = "/deadletters/deadletter/"
REDRIVES = "/deadletters/redrive/"


@pytest.fixture
def letters(transactional_db):
    return crowd(60)


@pytest.fixture
def halfway(letters, staff):
    """A redrive that has sent some, of which some died again."""
    some = [one for one in letters if one.state == State.OPEN]
    one = redrive.start(
        Selection(causes=("exception", "retries_exhausted")), by=staff, reason="rates.example.com is back", origin="/by-error/ (127.0.0.1)",
        conditions=Conditions(rate=50, canary=10, stop_above=20),
    )  # fmt: skip
    outcomes = ["succeeded"] * 5 + ["died", "sent", "sent", "skipped"]
    for place, dead in enumerate(some[:9]):
        why = "No worker knows the task billing.issue_invoice. Deploy it first." if outcomes[place] == "skipped" else ""
        RedriveItem.objects.create(redrive=one, dead_letter=dead, replay_number=1, outcome=outcomes[place], why=why)
    Redrive.objects.update(sent=8, succeeded=5, died=1, skipped=1, canary_passed=True, state="sending")
    return one


def test_the_page_of_a_redrive_is_fit_for_everybody(examine, halfway):
    examine(f"{REDRIVES}{halfway.pk}/change/", "redrive")
    redrive.stop(halfway, "4 of 10 died again: 40 % is more than 20 %.")
    examine(f"{REDRIVES}{halfway.pk}/change/", "redrive-stopped")


def test_the_list_of_redrives_and_the_audit_trail_are_fit_for_everybody(examine, halfway, staff):
    audit.record(
        Act.Verb.DISCARDED, by=staff, reason="the customer is gone", letter=letter(2), origin="/x/ (127.0.0.1)"
    )
    examine(REDRIVES, "redrives")
    examine("/deadletters/act/", "audit-trail")


def test_the_question_before_a_replay_of_many_is_fit_for_everybody(examine, letters):
    examine(REDRIVES + "new/?cause=exception", "redrive-new")


def test_the_page_of_an_error_is_fit_for_everybody(examine, letters):
    group = ErrorGroup.objects.first()
    ErrorGroup.objects.update(
        state="regressed", note="Their gateway drops idle connections.\nTicket OPS-12.", changed_at=group.last_seen
    )
    examine(f"{LETTERS}error/{group.pk}/", "error")
    examine(f"{LETTERS}by-error/", "letters-by-error-regressed")


def test_the_form_of_an_edit_is_fit_for_everybody(examine, transactional_db):
    made = letter(3, task_name="tests.total", body=b'[[1, 2], {"times": 3}, {}]')
    examine(f"{LETTERS}{made.pk}/edit/", "edit")


def test_replay_all_opens_a_dialog_and_starts_a_redrive(page, transactional_db, admin_user):
    made = [letter(0), letter(0)]
    page.goto(f"{LETTERS}error/{made[0].fingerprint}/")
    page.get_by_role("link", name="Replay 2…").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Reason").fill("it is back")
    page.keyboard.press("Escape")
    dialog.wait_for(state="detached")
    assert Redrive.objects.count() == 0
    page.get_by_role("link", name="Replay 2…").click()
    dialog.get_by_label("Reason").fill("it is back")
    dialog.get_by_role("button", name="Replay 2").click()
    page.wait_for_url("**/deadletters/redrive/*/change/")
    one = Redrive.objects.get()
    assert (one.reason, one.who, one.total) == ("it is back", "ana", 2)
