"""How much of a million deaths of one bug is kept, and that what is not kept is said."""

import pytest
from django.core.checks import run_checks

from deadletters.capture import keep
from deadletters.capture.capture import capture
from deadletters.console.errors import open_errors
from deadletters.envelope import Envelope, NoEnvelope
from deadletters.models import DeadLetter, State
from deadletters.replay.replay import NotReplayable, replay
from deadletters.secrets.payload import masked
from monitoring import metrics
from tests.deadletters.test_seal import death

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _fresh():
    keep._seen.clear()


def die(number):
    for _ in range(number):
        capture(death(f"t-{DeadLetter.objects.count()}"))


def test_beyond_the_first_limit_a_letter_is_kept_without_its_traceback(settings, admin_client):
    settings.DEADLETTERS_KEEP_PER_ERROR = 2
    die(4)
    whole, small = DeadLetter.objects.filter(traceback_kept=True), DeadLetter.objects.filter(traceback_kept=False)
    assert (whole.count(), small.count()) == (2, 2)
    assert small[0].traceback == ""
    assert Envelope.of(small[0]).body
    (error,) = open_errors()
    assert (error.no_traceback, error.no_payload) == (2, 0)
    text = admin_client.get(f"/deadletters/deadletter/{small[0].pk}/change/").text
    assert "Not kept: there were many letters of this error already." in text
    assert f"/deadletters/deadletter/{whole.first().pk}/change/" in text


def test_beyond_the_second_limit_a_letter_has_no_payload_and_everybody_is_told(settings, admin_client):
    settings.DEADLETTERS_KEEP_PAYLOADS_PER_ERROR = 1
    die(3)
    kept, *rest = DeadLetter.objects.order_by("pk")
    assert [bytes(one.body) for one in rest] == [b"", b""]
    assert Envelope.of(kept).body
    words = "The payload was not kept"
    with pytest.raises(NoEnvelope, match=words):
        Envelope.of(rest[0])
    with pytest.raises(NotReplayable, match=words):
        replay(rest[0], by=None)
    assert DeadLetter.objects.get(pk=rest[0].pk).state == State.OPEN
    assert words in masked(rest[0]).problem
    assert words in admin_client.get(f"/deadletters/deadletter/{rest[0].pk}/change/").text
    for address in ("/deadletters/deadletter/by-error/", "/"):
        assert "2 without their messages: they cannot be replayed" in admin_client.get(address).text
    assert 'redeliver_dead_letters_not_kept_whole{part="payload"} 2.0' in metrics.text().decode()
    assert "deadletters.I003" in {message.id for message in run_checks(include_deployment_checks=True)}


def test_pruning_makes_room_again(settings, monkeypatch):
    settings.DEADLETTERS_KEEP_PER_ERROR = 2
    monkeypatch.setattr(keep, "_AGAIN", 0)
    die(3)
    DeadLetter.objects.all().delete()
    die(2)
    assert DeadLetter.objects.filter(traceback_kept=True).count() == 1


def test_the_limit_costs_a_query_only_now_and_then(settings, django_assert_num_queries):
    settings.DEADLETTERS_KEEP_PER_ERROR = 10_000
    with django_assert_num_queries(0):  # the letters' own statements go past Django's cursors
        for number in range(30):
            capture(death(f"t-{number}"))


def test_no_number_is_no_reason_to_lose_a_letter(settings, monkeypatch):
    settings.DEADLETTERS_KEEP_PER_ERROR = 1
    monkeypatch.setattr(keep, "_COUNT", "SELECT nothing FROM nowhere WHERE %s = %s")
    die(1)
    assert DeadLetter.objects.count() == 1
