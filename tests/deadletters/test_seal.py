import json
from datetime import UTC, datetime, timedelta

import pytest
from celery import current_app
from django.core.checks import run_checks
from django.core.management import call_command
from django.db import connection
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from deadletters.capture.capture import capture
from deadletters.capture.record import Death, Record
from deadletters.envelope import Envelope, NoEnvelope
from deadletters.models import Cause, DeadLetter, Original, State
from deadletters.replay.sweep import sweep
from deadletters.secrets import seal
from tests.deadletters.letters import letter

OLD, NEW = seal.new_key(), seal.new_key()
HEADERS = {"id": "t-1", "task": "tests.die", "retries": 0, "when": datetime(2026, 1, 2, tzinfo=UTC), "raw": b"\x00\xff", "stamps": {"a": "hunter2"}}  # fmt: skip


def death(task_id="t-1", body=b'[["hunter2"], {"token": "hunter2"}, {}]', **changes):
    envelope = Envelope(
        headers={**HEADERS, "id": task_id}, properties={"priority": 3, "reply_to": "hunter2"}, body=body, content_type="application/json",
        content_encoding="utf-8", exchange="", routing_key="default", queue="default",
    )  # fmt: skip
    facts = {
        "exception_type": "ValueError",
        "exception_message": "token hunter2 is bad",
        "traceback": "E: hunter2\n",
        **changes,
    }
    return Death(envelope=envelope, task_id=task_id, task_name="tests.die", cause=Cause.EXCEPTION, **facts)


@given(st.binary(max_size=200))
def test_whatever_is_sealed_is_opened_by_its_key_and_by_no_other(payload):
    (mine,) = seal._keys((OLD,)).values()
    sealed = mine.encrypt(payload)
    assert mine.decrypt(sealed) == payload
    with pytest.raises(seal.InvalidToken):
        seal._keys((NEW,))[seal.key_id(NEW)].decrypt(sealed)


def test_the_row_of_a_sealed_letter_holds_no_secret_wherever_it_is_written(settings):
    settings.DEADLETTERS_KEYS = [NEW, OLD]
    row = Record.of(death()).row
    assert "hunter2" not in repr(row)
    assert b"hunter2" not in row["sealed"]
    assert (row["task_id"], row["queue"], row["priority"], row["seal_key"]) == ("t-1", "default", 3, seal.key_id(NEW))
    assert "hunter2" not in repr(death())


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("keys", [[], [OLD], [NEW, OLD]])
@pytest.mark.parametrize("body", [b'[["hunter2"], {}, {}]', b"", b"\n\x00\xff\n"])
def test_a_message_comes_out_as_it_went_in(settings, keys, body):
    settings.DEADLETTERS_KEYS = keys
    sent = death(body=body)
    capture(sent)
    assert Envelope.of(DeadLetter.objects.get()) == sent.envelope


@pytest.mark.django_db
def test_rotation_brings_every_letter_under_the_newest_key(settings, capsys):
    plain = letter()
    settings.DEADLETTERS_KEYS = [OLD]
    capture(death("t-old"))
    settings.DEADLETTERS_KEYS = [NEW, OLD]
    capture(death("t-new"))
    call_command("reseal_dead_letters", "--dry-run", "--json")
    assert json.loads(capsys.readouterr().out) == {"done": 2, "lost": 0, "busy": 0, "dry_run": True}
    assert set(DeadLetter.objects.values_list("seal_key", flat=True)) == {"", seal.key_id(OLD), seal.key_id(NEW)}
    before = Envelope.of(plain)
    call_command("reseal_dead_letters")
    assert capsys.readouterr().out == "Wrote 2 letters anew.\n"
    settings.DEADLETTERS_KEYS = [NEW]
    for one in DeadLetter.objects.all():
        assert one.seal_key == seal.key_id(NEW)
        assert one.body == b""
        assert Envelope.of(one)
    plain.refresh_from_db()
    assert Envelope.of(plain) == before
    call_command("reseal_dead_letters", "--json")
    assert json.loads(capsys.readouterr().out)["done"] == 0


@pytest.mark.django_db
def test_what_a_letter_was_before_an_edit_is_sealed_anew_too(settings):
    edited = letter()
    body = bytes(edited.body)
    Original.objects.create(dead_letter=edited, replay_number=1, headers=edited.headers, body=body)
    settings.DEADLETTERS_KEYS = [NEW]
    call_command("reseal_dead_letters")
    original = Original.objects.get()
    assert (bytes(original.body), original.headers, original.seal_key) == (b"", {}, seal.key_id(NEW))
    assert seal.unseal(bytes(original.sealed), original.seal_key).endswith(body)


@pytest.mark.django_db
def test_a_lost_key_is_said_and_costs_nothing_else(settings, capsys):
    settings.DEADLETTERS_KEYS = [OLD]
    capture(death("t-lost"))
    settings.DEADLETTERS_KEYS = [NEW]
    plain = letter()
    with pytest.raises(SystemExit):
        call_command("reseal_dead_letters", "--json")
    out, err = capsys.readouterr()
    assert (json.loads(out)["done"], json.loads(out)["lost"]) == (1, 1)
    assert "their key is not in DEADLETTERS_KEYS" in err
    plain.refresh_from_db()
    assert plain.seal_key == seal.key_id(NEW)
    lost = DeadLetter.objects.get(task_id="t-lost")
    with pytest.raises(NoEnvelope, match=f"{seal.key_id(OLD)}, which is not in DEADLETTERS_KEYS"):
        Envelope.of(lost)


@pytest.mark.django_db
def test_the_sweep_opens_a_letter_whose_key_is_lost_and_leaves_its_message_alone(settings):
    settings.DEADLETTERS_KEYS = [OLD]
    capture(death("t-lost"))
    of_letter = DeadLetter.objects.filter(task_id="t-lost")
    before = of_letter.values("sealed", "seal_key", "root_id", "queue", "exception_type").get()
    of_letter.update(state=State.REPLAYING, replay_number=1, claimed_at=timezone.now() - timedelta(minutes=5))
    of_letter.update(sent_at=timezone.now() - timedelta(minutes=5))
    current_app.backend.store_result("t-lost", KeyError("gone"), "FAILURE")
    settings.DEADLETTERS_KEYS = [NEW]
    assert sweep(timedelta(seconds=-1)).settled == 1
    lost = of_letter.get()
    assert (lost.state, of_letter.values(*before).get()) == (State.OPEN, before)
    assert "its replay died (KeyError)" in lost.events.last().text
    settings.DEADLETTERS_KEYS = [NEW, OLD]
    assert Envelope.of(lost).body == death("t-lost").envelope.body


@pytest.mark.django_db
def test_bytes_that_were_changed_are_refused(settings):
    settings.DEADLETTERS_KEYS = [OLD]
    capture(death())
    with connection.cursor() as cursor:
        cursor.execute("UPDATE deadletters_deadletter SET sealed = set_byte(sealed, 40, 255 - get_byte(sealed, 40))")
    with pytest.raises(NoEnvelope, match="it was changed or cut"):
        Envelope.of(DeadLetter.objects.get())


def test_without_a_key_the_deploy_check_hints_and_does_not_fail(settings):
    settings.DEADLETTERS_KEYS = []
    said = {message.id: message for message in run_checks(include_deployment_checks=True)}
    assert not said["deadletters.I001"].is_serious()
    settings.DEADLETTERS_KEYS = [NEW]
    assert "deadletters.I001" not in {message.id for message in run_checks(include_deployment_checks=True)}
