"""One row a bug, written with its letters."""

import threading
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection, transaction

from deadletters.capture.capture import Outcome, capture
from deadletters.capture.record import Death
from deadletters.envelope import REPLAY_HEADER, Envelope
from deadletters.models import Cause, DeadLetter, ErrorGroup, State
from deadletters.replay import triage
from tests.processes import eventually, waits_for_a_lock

pytestmark = pytest.mark.django_db(transaction=True)


def death(message="row 17 is broken", *, task_id="", replay=0, **fields):
    headers = {"id": task_id, "task": "shop.price", **({REPLAY_HEADER: replay} if replay else {})}
    envelope = Envelope(
        headers=headers, properties={}, body=b"[[], {}, {}]", content_type="application/json", content_encoding="utf-8",
        exchange="", routing_key="default", queue="default",
    )  # fmt: skip
    return Death(
        task_id=task_id or str(uuid.uuid4()), task_name="shop.price", cause=Cause.EXCEPTION, envelope=envelope,
        exception_type="ValueError", exception_message=message, **fields,
    )  # fmt: skip


def test_deaths_of_one_bug_share_a_row_that_counts_them_all():
    first = datetime(2026, 11, 1, tzinfo=UTC)
    for number in range(3):
        capture(death(f"row {number} is broken", died_at=first + timedelta(hours=number)))
    group = ErrorGroup.objects.get()
    assert (group.deaths, group.state, group.message) == (3, "open", "row 2 is broken")
    assert (group.first_seen, group.last_seen) == (first, first + timedelta(hours=2))
    assert set(DeadLetter.objects.values_list("fingerprint", flat=True)) == {group.fingerprint}


def test_whoever_gives_up_on_an_error_lets_it_die_meanwhile(admin_user):
    capture(death("row 1 is broken", task_id="t-1"))
    group, answers = ErrorGroup.objects.get(), []

    def give_up():
        answers.append(triage.discard(group, by=admin_user, reason="the shop is closed"))
        connection.close()

    other = threading.Thread(target=give_up)
    with transaction.atomic():
        DeadLetter.objects.select_for_update().get()
        other.start()
        eventually(lambda: waits_for_a_lock("%WITH moved AS%"), what="its letter is being discarded")
        assert capture(death("row 2 is broken", task_id="t-2")) == Outcome.NEW
    other.join()
    assert answers == [2]
    assert {letter.state for letter in DeadLetter.objects.all()} == {State.DISCARDED}
    assert ErrorGroup.objects.get().state == "discarded"


def test_a_death_reported_twice_counts_once():
    once = death()
    capture(once)
    assert capture(once) == Outcome.DUPLICATE
    assert ErrorGroup.objects.get().deaths == 1


def test_a_replay_that_dies_again_counts_once_more():
    capture(death(task_id="a"))
    DeadLetter.objects.update(state=State.REPLAYING, replay_number=1)
    assert capture(death(task_id="a", replay=1)) == Outcome.REOPENED
    assert ErrorGroup.objects.get().deaths == 2


@pytest.mark.parametrize(
    ("before", "after"), [("resolved", "regressed"), ("discarded", "open"), ("regressed", "regressed")]
)
def test_a_new_death_moves_the_state(before, after):
    capture(death())
    ErrorGroup.objects.update(state=before)
    capture(death())
    assert ErrorGroup.objects.get().state == after


def test_deaths_of_one_bug_at_the_same_time_are_all_counted():
    def bury():
        for _ in range(10):
            capture(death())
        connection.close()

    threads = [threading.Thread(target=bury) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ErrorGroup.objects.get().deaths == 40
