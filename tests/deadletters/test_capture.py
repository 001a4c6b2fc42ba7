"""One death, one letter, however it is reported."""

import threading
import uuid
from datetime import UTC, datetime

import pytest
from django.db import connection

from deadletters.capture.announce import flush
from deadletters.capture.capture import Outcome, capture
from deadletters.capture.record import Death
from deadletters.envelope import COPY_HEADER, REPLAY_HEADER, Envelope
from deadletters.models import Cause, DeadLetter, Event, State

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _told():
    yield
    flush(timeout=10)


def death(task_id="t-1", replay=0, **changes):
    headers = {
        "id": task_id,
        "task": "tests.die",
        "retries": 0,
        "when": datetime(2026, 1, 2, tzinfo=UTC),
        "raw": b"\x00\xff",
    }
    if replay:
        headers[REPLAY_HEADER] = replay
    envelope = Envelope(
        headers=headers, properties={"priority": 3}, body=b"[[], {}, {}]", content_type="application/json", content_encoding="utf-8",
        exchange="", routing_key="default", queue="default",
    )  # fmt: skip
    facts = {
        "task_id": task_id,
        "task_name": "tests.die",
        "cause": Cause.EXCEPTION,
        "exception_type": "ValueError",
        "exception_message": "no",
    }
    return Death(envelope=envelope, **{**facts, **changes})


def test_two_reports_at_once_make_one_letter():
    outcomes, barrier = [], threading.Barrier(4)

    def report():
        barrier.wait()
        outcomes.append(capture(death()))
        connection.close()

    threads = [threading.Thread(target=report) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == [Outcome.DUPLICATE] * 3 + [Outcome.NEW]
    assert DeadLetter.objects.count() == Event.objects.count() == 1


def test_the_same_death_delivered_twice_is_stored_once():
    one = death(death_id=uuid.uuid4())
    assert [capture(one), capture(one)] == [Outcome.NEW, Outcome.DUPLICATE]


def test_a_death_that_looks_like_a_copys_is_warned_of(caplog):
    capture(death())
    DeadLetter.objects.update(state=State.RESOLVED)
    assert capture(death(exception_message="of another night")) == Outcome.DUPLICATE
    assert ("WARNING", "dead_letter.duplicate") in [(line.levelname, line.message) for line in caplog.records]


@pytest.mark.parametrize("state", [State.RESOLVED, State.DISCARDED])
def test_a_late_copy_does_not_open_a_settled_letter(state):
    capture(death())
    DeadLetter.objects.update(state=state)
    assert capture(death()) == Outcome.DUPLICATE
    assert DeadLetter.objects.get().state == state


def test_only_the_replay_under_way_opens_its_letter():
    capture(death())
    DeadLetter.objects.update(state=State.REPLAYING, replay_number=2)
    assert capture(death()) == Outcome.DUPLICATE
    assert capture(death(replay=1)) == Outcome.DUPLICATE
    assert capture(death(replay=2, exception_message="again")) == Outcome.REOPENED
    letter = DeadLetter.objects.get()
    assert (letter.state, letter.deaths, letter.replay_number, letter.exception_message) == (State.OPEN, 2, 2, "again")


def test_headers_that_json_lacks_come_back_as_they_were():
    one = death()
    capture(one)
    stored = Envelope.of(DeadLetter.objects.get())
    assert stored.headers == one.envelope.headers
    assert stored.body == one.envelope.body
    again = stored.for_replay(1).headers
    changed = {"retries": 0, "eta": None, "expires": None, REPLAY_HEADER: 1, COPY_HEADER: again[COPY_HEADER]}
    assert again == {**one.envelope.headers, **changed}
    assert stored.for_replay(1).headers[COPY_HEADER] != again[COPY_HEADER]


def test_text_that_postgresql_refuses_is_stored_escaped():
    capture(death(exception_message="a\x00b\ud83d", traceback="\x00" * 200_000))
    letter = DeadLetter.objects.get()
    assert letter.exception_message == "a\\x00b\\ud83d"
    assert len(letter.traceback) < 66_000
    assert "characters left out" in letter.traceback
