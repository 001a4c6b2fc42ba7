import json

import pytest

from deadletters.causes import HELP
from deadletters.console import traceback
from deadletters.console.names import breakable
from deadletters.console.sparkline import sparkline
from deadletters.models import Cause, State
from tests.deadletters.letters import TRACEBACK, letter

pytestmark = pytest.mark.django_db


def page(client, made):
    response = client.get(f"/deadletters/deadletter/{made.pk}/change/")
    assert response.status_code == 200
    return response


def test_the_page_shows_error_arguments_facts_and_trail(admin_client):
    made = letter()
    letter()  # the same error
    text = page(admin_client, made).text
    for part in (
        breakable("ReadTimeout"),
        "236263",
        "2026-10-17",
        made.task_id,
        breakable("prices-6@node1"),
        "1 more open",
        "Died",
    ):
        assert part in text
    assert "<b>JPY</b>" not in text


def test_a_replay_says_what_it_will_set_free(admin_client):
    chain = [{"task": "shop.merge", "args": [], "kwargs": {}, "options": {"task_id": "next-1"}, "subtask_type": None}]
    made = letter(body=json.dumps([[1], {}, {"chain": chain}]).encode())
    assert "shop.merge" in page(admin_client, made).text


@pytest.mark.parametrize("body", [b"", b"\xff\x00", b"null", b"[1,2,3]", b'{"a":', b'[[1],{},"x"]'])
def test_a_body_that_is_no_task_message_is_shown_all_the_same(admin_client, body):
    made = letter(body=body, cause=Cause.UNDECODABLE, task_name="")
    assert "kept byte for byte" in page(admin_client, made).text


def test_a_huge_traceback_is_cut_at_its_beginning(admin_client):
    made = letter(traceback="".join(f"line {number}\n" for number in range(20_000)) + TRACEBACK)
    text = page(admin_client, made).text
    assert len(text) < 8 * traceback.LIMIT
    assert "the beginning is cut off" in text
    assert f"{breakable('rates.py')}:64" in text


def test_a_button_for_each_state(admin_client):
    buttons = {
        state: [word for word in ("Replay</button>", "Discard…", "Restore") if word in page(admin_client, letter(state=state)).text]
        for state in State
    }  # fmt: skip
    assert buttons == {
        State.OPEN: ["Replay</button>", "Discard…"], State.REPLAYING: ["Discard…"], State.RESOLVED: [], State.DISCARDED: ["Restore"],
    }  # fmt: skip


def test_the_run_is_linked_where_the_project_names_one(admin_client, settings):
    made = letter()
    assert "Show the run" not in page(admin_client, made).text
    settings.DEADLETTERS_RUN_URL = "tests.deadletters.test_admin_letter.somewhere"
    assert f'href="/somewhere/{made.task_id}"' in page(admin_client, made).text


def somewhere(task_id):
    return f"/somewhere/{task_id}"


def test_every_cause_has_a_sentence():
    assert set(HELP) == set(Cause)


def test_the_newest_call_comes_first_and_libraries_are_told_apart():
    last, before = traceback.parse(TRACEBACK)
    assert [(frame.function, frame.ours) for frame in last.frames] == [
        ("get", False), ("rates_for", True), ("price_partition", True), ("trace_task", False),
    ]  # fmt: skip
    assert last.headline == "httpx.ReadTimeout: timed out after 10.0 s waiting for rates.example.com"
    assert last.frames[1].code == 'response = self.http.get(f"/v2/rates/{day.isoformat()}", timeout=10)\n'
    assert "<b>" not in last.frames[2].html
    assert (before.headline, before.led) == ("httpcore.ReadTimeout: timed out", "cause")


def test_a_message_of_many_lines_stays_with_its_exception():
    (raised,) = traceback.parse(
        'Traceback (most recent call last):\n  File "/srv/a.py", line 1, in f\n    g()\nValueError: one\n    two\nthree\n'
    )
    assert raised.headline == "ValueError: one\n    two\nthree"


@pytest.mark.parametrize("text", ["", "no traceback at all", "\x00", "Traceback (most recent call last):", '  File "x'])
def test_what_is_no_traceback_has_no_frames(text):
    assert traceback.parse(text) == []


@pytest.mark.parametrize("values", [(), (0,), (0, 0, 0), (5,), tuple(range(24))])
def test_a_sparkline_stays_in_its_box(values):
    line = sparkline(values, width=100, height=20)
    points = [tuple(map(float, point.split(","))) for point in line.line.split()]
    assert all(0 <= x <= 100 and 0 <= y <= 20 for x, y in points)
    assert line.total == sum(values)
