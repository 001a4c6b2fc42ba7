import uuid
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from deadletters.console import errors, listing
from deadletters.console.errors import count_open_errors, open_errors
from deadletters.console.listing import Count, TooBroad, count, patience, quick_count
from deadletters.distinct import distinct_values
from deadletters.models import Cause, DeadLetter, State
from tests.deadletters.letters import letter

pytestmark = pytest.mark.django_db

LIST = "/deadletters/deadletter/"


def ids(response):
    return [row.pk for row in response.context["cl"].result_list]


def test_the_list_shows_open_letters_unless_asked_for_others(admin_client):
    waiting, resolved = letter(), letter(state=State.RESOLVED)
    assert ids(admin_client.get(LIST)) == [waiting.pk]
    assert ids(admin_client.get(LIST, {"state": "resolved"})) == [resolved.pk]
    assert set(ids(admin_client.get(LIST, {"state": "all"}))) == {waiting.pk, resolved.pk}
    assert ids(admin_client.get(LIST, {"state": "nonsense"})) == [waiting.pk]


def test_tabs_count_and_keep_the_other_filters(admin_client):
    letter(queue="a")
    letter(state=State.DISCARDED)
    tabs = admin_client.get(LIST, {"queue": "a", "before": "2026-01-01T00:00:00+00:00,1"}).context["tabs"]
    assert [(tab.label, str(tab.count)) for tab in tabs[:4]] == [
        ("Open", "1"), ("Replaying", "0"), ("Resolved", "0"), ("Discarded", "1"),
    ]  # fmt: skip
    assert [tab.url for tab in tabs if tab.current] == ["?queue=a&state=open"]


@pytest.mark.parametrize(
    ("query", "matches"),
    [
        ({"queue": "mail"}, {5}),
        ({"task_name": "crm.pull_accounts"}, {2}),
        ({"cause": "worker_lost"}, {7}),
        ({"age": "hour"}, {1, 2, 5, 7}),
        ({"age": "day", "queue": "default"}, {2, 7}),
        ({"age": "fortnight"}, {1, 2, 5, 7}),
        ({"q": "CONNECTION"}, {1, 5}),
        ({"q": "WorkerLost"}, {7}),
        ({"q": "crm."}, {2}),
        ({"q": "100% sure"}, set()),
    ],
)
def test_filters_and_search_find_what_they_say(admin_client, query, matches):
    made = {number: letter(number).pk for number in (1, 2, 5, 7)}
    assert set(ids(admin_client.get(LIST, query))) == {made[number] for number in matches}


def test_a_search_for_an_id_looks_in_every_state_and_at_the_workflow(admin_client):
    root = str(uuid.uuid4())
    letter()
    resolved = letter(state=State.RESOLVED, root_id=root)
    assert ids(admin_client.get(LIST, {"q": f" {resolved.task_id} "})) == [resolved.pk]
    assert ids(admin_client.get(LIST, {"q": root})) == [resolved.pk]


def test_two_letters_are_refused_with_a_hint(admin_client):
    letter()
    response = admin_client.get(LIST, {"q": "ti"})
    assert ids(response) == []
    assert "3 letters or more" in response.text


def test_links_of_other_screens_can_be_taken_away_again(admin_client):
    letter(fingerprint="a" * 32)
    letter(1)
    response = admin_client.get(LIST, {"fingerprint": "a" * 32})
    assert len(ids(response)) == 1
    assert response.context["cl"].narrowings == [("fingerprint", "a" * 32, "?")]


def test_older_and_newer_walk_over_every_row_once_in_both_directions(admin_client, monkeypatch):
    monkeypatch.setattr("deadletters.admin.DeadLetterAdmin.list_per_page", 3)
    at = timezone.now()
    # Two of them died in the same instant: the id decides.
    made = [letter(died_at=at - timedelta(minutes=number // 2)).pk for number in range(8)]
    pages, response = [], admin_client.get(LIST)
    assert response.context["cl"].newer == ""
    while True:
        pages.append(ids(response))
        if not response.context["cl"].older:
            break
        response = admin_client.get(LIST + response.context["cl"].older)
    assert sorted(pk for page in pages for pk in page) == sorted(made)
    assert [len(page) for page in pages] == [3, 3, 2]
    back = []
    while response.context["cl"].newer:
        response = admin_client.get(LIST + response.context["cl"].newer)
        back.append(ids(response))
    assert back == pages[1::-1]
    assert str(response.context["cl"].counted) == "8"


@pytest.mark.parametrize(
    "cursor", ["", "x", "2026-01-01", "2026-01-01T00:00:00,1", "2026-99-01T00:00:00+00:00,1", ",,,"]
)
def test_a_mangled_page_is_the_first_page(admin_client, cursor):
    made = letter()
    assert ids(admin_client.get(LIST, {"before": cursor})) == [made.pk]


def test_a_list_reads_no_body_and_no_traceback(admin_client, django_assert_max_num_queries):
    for number in range(20):
        letter(number)
    with django_assert_max_num_queries(22) as seen:
        admin_client.get(LIST)
    assert not any('"body"' in query["sql"] or '"traceback"' in query["sql"] for query in seen.captured_queries)


def test_a_big_number_is_counted_so_far_and_then_estimated(monkeypatch):
    monkeypatch.setattr(listing, "COUNTED", 3)
    for number in range(5):
        letter(number)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE deadletters_deadletter")
    assert count(DeadLetter.objects.all()) == Count(5, exact=False)
    assert str(Count(1_000_000, exact=False)) == "about 1,000,000"
    assert count(DeadLetter.objects.filter(cause=Cause.POISON)) == Count(0)


def test_a_list_that_is_narrowed_is_counted_less_far(admin_client, monkeypatch):
    monkeypatch.setattr("deadletters.admin.DeadLetterAdmin.list_per_page", 2)
    monkeypatch.setattr(listing, "COUNTED_NARROWED", 3)
    for _ in range(5):
        letter(queue="a")
    assert admin_client.get(LIST).context["cl"].counted == Count(5)
    for narrowed in ({"queue": "a"}, {"q": "timed"}, {"fingerprint": letter(queue="a").fingerprint}):
        assert not admin_client.get(LIST, narrowed).context["cl"].counted.exact


def test_counting_gives_up_sooner_than_the_list(monkeypatch):
    monkeypatch.setattr(listing, "COUNTING", timedelta(milliseconds=20))
    letter()
    slow = DeadLetter.objects.extra(where=["pg_sleep(5) IS NOT NULL"])
    with patience():
        assert quick_count(slow, least=7) == Count(7, exact=False)
        with connection.cursor() as cursor:
            cursor.execute("SHOW statement_timeout")
            assert cursor.fetchone() == ("2s",)


def test_choices_jump_from_value_to_value():
    for queue in ("b", "a", "b", "", "c", "a"):
        letter(queue=queue)
    assert distinct_values(DeadLetter, "queue") == ["a", "b", "c"]


def test_a_question_that_takes_too_long_is_stopped_and_the_page_says_so(admin_client, monkeypatch):
    with pytest.raises(TooBroad), patience(timedelta(milliseconds=20)), connection.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(5)")
    with connection.cursor() as cursor:  # the limit went with its transaction
        cursor.execute("SHOW statement_timeout")
        assert cursor.fetchone() == ("0",)

    def slow(_params):
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_sleep(30)")

    monkeypatch.setattr("deadletters.admin.tabs", slow)
    response = admin_client.get(LIST, {"q": "anything"})
    assert response.status_code == 400
    assert "Narrow it" in response.text


def test_one_error_is_one_line_with_its_newest_letter():
    old = timezone.now() - timedelta(hours=5)
    for number in range(3):
        letter(fingerprint="a" * 32, died_at=old, exception_message=f"old {number}")
    letter(fingerprint="a" * 32, exception_message="new")
    letter(fingerprint="a" * 32, state=State.RESOLVED)
    letter(1, fingerprint="b" * 32)
    letter(2, fingerprint="c" * 32, state=State.DISCARDED)
    first, second = open_errors()
    assert (first.fingerprint, str(first.open), first.message) == ("a" * 32, "4", "new")
    assert (first.hourly[-1], first.hourly[-6], sum(first.hourly)) == (2, 3, 5)
    assert second.name == "OperationalError"
    assert count_open_errors() == 2
    assert [group.fingerprint for group in open_errors(shown=1)] == ["a" * 32]


def test_letters_without_a_fingerprint_are_a_line_too(admin_client):
    letter(8, fingerprint="")
    (group,) = open_errors()
    assert group.name == "Unknown task"
    response = admin_client.get(LIST + "by-error/")
    assert "Replay 1" in response.text


def test_choices_and_lists_live_without_any_row(admin_client):
    assert admin_client.get(LIST).status_code == 200
    assert "Nothing is dead" in admin_client.get(LIST + "by-error/").text


def test_an_error_without_open_letters_stays_open_and_asks_for_the_bug(admin_client):
    made = letter(state=State.RESOLVED)
    address = f"{LIST}error/{made.fingerprint}/"
    assert "If the bug itself is mended, resolve the error" in admin_client.get(address).text
    letter(fingerprint=made.fingerprint)
    assert "If the bug itself is mended" not in admin_client.get(address).text


def test_of_many_errors_only_those_that_are_shown_are_told_by_their_newest_letter():
    for number in range(30):
        letter(number, fingerprint=f"{number:032}")
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {errors._OPEN}", {"limit": 10, "shown": 6})
        (told,) = cursor.fetchone()
    waiting, looked = [told[0]["Plan"]], []
    while waiting:
        node = waiting.pop()
        waiting += node.get("Plans", [])
        looked += [node["Actual Loops"]] if node.get("Alias") == "newest_letter" else []
    assert looked == [6]
