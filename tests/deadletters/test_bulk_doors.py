"""Errors, redrives and edits in the console: who may, what is asked, what is refused."""

import json
import threading
import uuid

import pytest
from celery import current_app
from django.contrib.auth.models import Permission
from django.db import connection, transaction
from django.test import Client

from deadletters.envelope import Envelope
from deadletters.models import Act, DeadLetter, ErrorGroup, Event, Original, Redrive, RedriveItem, State
from deadletters.redrive import redrive
from deadletters.redrive.drive import driver_of
from deadletters.replay import discard
from deadletters.secrets.seal import new_key
from deadletters.selection import Selection
from tests.deadletters.letters import letter
from tests.processes import eventually

pytestmark = pytest.mark.django_db(transaction=True)

LIST, REDRIVES = "/deadletters/deadletter/", "/deadletters/redrive/"
TOTAL = {"task_name": "tests.total", "body": b'[[1, 2], {"times": 3}, {"chain": null}]', "queue": "nobody-consumes-it"}


def somebody(django_user_model, *codenames):
    user = django_user_model.objects.create_user("eve", password="password", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=("view_deadletter", *codenames)))
    client = Client()
    client.force_login(user)
    return client


def said(response):
    return [str(message) for message in response.context["messages"]]


def test_without_the_permission_every_door_is_shut(django_user_model):
    made = letter(0)
    one = redrive.start(Selection(), by="ana")
    # Everything but what each door asks for.
    client = somebody(django_user_model, "replay_deadletter", "discard_deadletter", "view_redrive")
    error = f"{LIST}error/{made.fingerprint}/"
    for url in (
        f"{REDRIVES}new/", *(f"{REDRIVES}{one.pk}/{act}/act/" for act in ("pause", "resume", "cancel")),
        *(f"{error}{act}/" for act in ("resolve", "reopen", "discard", "note", "assign")), f"{LIST}{made.pk}/edit/",
    ):  # fmt: skip
        assert client.post(url, {"reason": "x"}).status_code == 403, url
    assert client.get("/deadletters/act/").status_code == 403
    client.post(LIST, {"action": "replay_letters", "index": "0", "_selected_action": [made.pk]})
    assert DeadLetter.objects.get().state == State.OPEN
    assert Redrive.objects.get().state == "sending"
    text = client.get(error).text.split("<main")[1]
    assert "Resolve" not in text
    assert "Replay 1" not in text


def test_the_page_of_a_redrive_names_letters_only_to_who_may_see_them(django_user_model):
    made = letter(0, exception_message="the account of ana is closed")
    one = redrive.start(Selection(), by="ana")
    RedriveItem.objects.create(redrive=one, dead_letter=made, replay_number=1, outcome=RedriveItem.Outcome.DIED)
    reader = somebody(django_user_model, "view_redrive")
    pages = (f"{REDRIVES}{one.pk}/change/", f"{REDRIVES}{one.pk}/progress/")
    assert all("account of ana" in reader.get(url).text for url in pages)
    django_user_model.objects.get().user_permissions.set(Permission.objects.filter(codename="view_redrive"))
    for url in pages:
        text = reader.get(url).text
        assert "account of ana" not in text
        assert f"{LIST}{made.pk}/" not in text


def test_what_is_secret_only_since_it_was_stored_is_shown_nowhere(admin_client, settings):
    made = letter(0, exception_message="shoe_size=44.5-narrow is sold out")
    one = redrive.start(Selection(), by="ana")
    RedriveItem.objects.create(redrive=one, dead_letter=made, replay_number=1, outcome=RedriveItem.Outcome.DIED)
    settings.DEADLETTERS_REDACT_NAMES = ("shoe_size",)
    for url in (LIST, f"{LIST}by-error/", f"{LIST}{made.pk}/change/", f"{LIST}error/{made.fingerprint}/", f"{REDRIVES}{one.pk}/change/", "/"):  # fmt: skip
        text = admin_client.get(url).text
        assert "shoe_size" in text, url
        assert "44.5" not in text, url


def test_a_redrive_is_paused_resumed_and_cancelled_by_posts(admin_client):
    letter(0)
    one = redrive.start(Selection(), by="ana")
    assert admin_client.get(f"{REDRIVES}{one.pk}/pause/act/").status_code == 405
    for act, state in (("pause", "paused"), ("resume", "sending"), ("cancel", "cancelled")):
        admin_client.post(f"{REDRIVES}{one.pk}/{act}/act/")
        one.refresh_from_db()
        assert one.state == state
    verbs = [(act.verb, act.who) for act in Act.objects.order_by("id")]
    assert verbs == [
        ("redrive_started", "ana"), ("redrive_paused", "admin"), ("redrive_resumed", "admin"), ("redrive_cancelled", "admin"),
    ]  # fmt: skip
    again = admin_client.post(f"{REDRIVES}{one.pk}/pause/act/", follow=True)
    assert "is cancelled" in said(again)[-1]


def test_a_list_that_is_narrowed_by_something_unknown_is_not_replayed(admin_client):
    letter(0)
    response = admin_client.get(f"{REDRIVES}new/?worker=a", follow=True)
    assert "narrowed by “worker”" in said(response)[0]


def test_what_a_broker_that_is_away_did_not_take_is_not_said_to_be_skipped(admin_client, monkeypatch):
    headers = {"task": "tests.echo", "id": str(uuid.uuid4()), "lang": "py"}
    made = letter(0, task_id=headers["id"], task_name="tests.echo", headers=headers, body=b"[[1], {}, {}]")
    monkeypatch.setattr(current_app.conf, "broker_write_url", "redis://127.0.0.1:1/0")
    data = {"action": "replay_letters", "index": "0", "_selected_action": [made.pk]}
    assert said(admin_client.post(LIST, data, follow=True))[-1] == "1 not sent yet: the redrive goes on with them."
    assert DeadLetter.objects.get().state == State.OPEN


def test_all_that_match_are_asked_about_first(admin_client):
    made = letter(0)
    data = {"action": "replay_letters", "index": "0", "_selected_action": [made.pk], "select_across": "1"}
    response = admin_client.post(LIST + "?queue=prices&age=day", data)
    assert response.headers["Location"] == f"{REDRIVES}new/?queue=prices&age=day"
    assert "queue prices" in admin_client.get(response.headers["Location"]).text


def test_an_error_is_resolved_annotated_assigned_and_given_up(admin_client, admin_user):
    dead = [letter(0), letter(0)]
    error = f"{LIST}error/{dead[0].fingerprint}/"
    admin_client.post(error + "note/", {"note": "ticket 12"})
    admin_client.post(error + "assign/", {"assignee": "admin"})
    admin_client.post(error + "resolve/")
    group = ErrorGroup.objects.get()
    assert (group.state, group.note, group.assignee) == ("resolved", "ticket 12", admin_user)
    assert "already" in said(admin_client.post(error + "resolve/", follow=True))[-1]
    assert "Say why" in said(admin_client.post(error + "discard/", {"reason": " "}, follow=True))[-1]
    admin_client.post(error + "discard/", {"reason": "gone"})
    assert ErrorGroup.objects.get().state == "discarded"
    assert {one.state for one in DeadLetter.objects.all()} == {State.DISCARDED}
    (bulk,) = Act.objects.filter(verb=Act.Verb.ERROR_DISCARDED)
    assert (bulk.number, bulk.reason) == (2, "gone")
    assert "ticket 12" in admin_client.get(error).text


def test_many_are_discarded_and_restored_with_one_act_each(admin_client):
    made = [letter(number) for number in range(3)]
    ids = {"_selected_action": [one.pk for one in made], "index": "0"}
    admin_client.post(LIST, {**ids, "action": "discard_letters", "select_across": "0", "reason": "old"})
    assert set(DeadLetter.objects.values_list("state", flat=True)) == {"discarded"}
    assert Event.objects.filter(kind="discarded", text="old").count() == 3
    admin_client.post(LIST + "?state=discarded", {**ids, "action": "restore_letters"})
    assert set(DeadLetter.objects.values_list("state", flat=True)) == {"open"}
    assert [(act.verb, act.number) for act in Act.objects.order_by("id")] == [("discarded", 3), ("restored", 3)]


def test_many_are_discarded_in_batches_as_one_act_and_what_dies_meanwhile_stays_open(monkeypatch):
    monkeypatch.setattr(discard, "_BATCH", 2)
    made = [letter(number) for number in range(5)]

    def discarded():
        discard.discard_many(DeadLetter.objects.open(), by=None, reason="old")
        connection.close()

    thread = threading.Thread(target=discarded)
    with transaction.atomic():
        DeadLetter.objects.select_for_update().get(pk=made[3].pk)
        thread.start()
        eventually(lambda: DeadLetter.objects.filter(state=State.DISCARDED).count() == 2)
        later = letter(0)
    thread.join()
    assert set(DeadLetter.objects.open()) == {later}
    assert Act.objects.get().number == 5


@pytest.mark.parametrize(
    ("posted", "says"),
    [
        ({"mode": "json", "args": "[1", "kwargs": "{}"}, "no JSON"),
        ({"mode": "json", "args": "{}", "kwargs": "{}"}, "has to be a list"),
        ({"mode": "json", "args": "[1, 2, 3]", "kwargs": "{}"}, "do not fit"),
        ({"mode": "json", "args": "[1, 2]", "kwargs": "{}", "queue": "nowhere"}, "no queue nowhere"),
        ({"mode": "json", "args": "[1, 2]", "kwargs": "{}", "delay": "901"}, "from 0 to 900"),
        ({"mode": "form", "p_first": "1", "p_second": ""}, "second is needed"),
        ({"mode": "form", "p_first": "one", "p_second": "2"}, "double quotes"),
        ({"mode": "json", "args": '[{"__type__": "decimal", "__value__": "x"}, 2]', "kwargs": "{}"}, "not of its type"),
        ({"mode": "form", "p_first": '{"__type__": "uuid", "__value__": "x"}', "p_second": "2"}, "is no JSON"),
        ({"mode": "json", "args": "[" * 100_000, "kwargs": "{}"}, "nested too deeply"),
    ],
)
def test_an_edit_that_cannot_be_sent_is_refused_and_loses_nothing(admin_client, posted, says):
    made = letter(0, **TOTAL)
    response = admin_client.post(f"{LIST}{made.pk}/edit/", {"reason": "typo", **posted})
    assert says in response.text
    assert "typo" in response.text
    made.refresh_from_db()
    assert (made.state, bytes(made.body), Original.objects.count()) == ("open", TOTAL["body"], 0)


def test_an_edit_is_replayed_and_the_original_kept(admin_client, admin_user):
    made = letter(0, **TOTAL)
    form = {"mode": "form", "p_first": "1", "p_second": "20", "p_times": "3", "reason": "it was 20"}
    admin_client.post(f"{LIST}{made.pk}/edit/", form)
    made.refresh_from_db()
    assert (made.state, made.replay_number) == ("replaying", 1)
    assert bytes(made.body).startswith(b'[[1, 20], {"times": 3}')
    assert bytes(Original.objects.get().body) == TOTAL["body"]
    told = made.events.get(kind="edited")
    assert (told.actor, "-   2" in told.text, "+   20" in told.text) == (admin_user, True, True)
    act = Act.objects.get(verb="edited")
    assert (act.who, act.reason, act.dead_letter_id) == ("admin", "it was 20", made.pk)
    page = admin_client.get(f"{LIST}{made.pk}/change/").text
    assert "Edited and replayed" in page


def test_the_form_of_an_edit_does_not_tell_the_default_of_a_secret_parameter(admin_client):
    def login(user, password="hunter2", *, token=None, tries=3):
        pass

    current_app.task(login, name="tests.login")
    try:
        made = letter(0, task_name="tests.login", body=b'[["ana"], {}, {}]')
        form = admin_client.get(f"{LIST}{made.pk}/edit/").context["form"]
    finally:
        current_app.tasks.unregister("tests.login")
    assert [field.hint for field in form.fields] == ["", "default ••••", "default None", "default 3"]


def test_an_edit_without_a_form_is_json_only(admin_client):
    made = letter(0, task_name="not.known.here", body=b'[["2026-11-26"], {}, {}]')
    page = admin_client.get(f"{LIST}{made.pk}/edit/").text
    assert "By parameter" not in page
    assert "2026-11-26" in page


@pytest.mark.parametrize("method", ["get", "post"])
def test_what_has_no_arguments_cannot_be_edited(admin_client, method):
    made = letter(0, body=b"\x00\xff")
    response = getattr(admin_client, method)(f"{LIST}{made.pk}/edit/", {"args": "[]", "kwargs": "{}"}, follow=True)
    assert "nothing to edit" in said(response)[0]


def test_half_a_surrogate_pair_is_shown_edited_and_sent_as_it_was(admin_client):
    made = letter(0, task_name="tests.anything", body=rb'[["\ud800", 1], {}, {}]')
    assert r"\ud800" in admin_client.get(f"{LIST}{made.pk}/change/").text
    form = admin_client.get(f"{LIST}{made.pk}/edit/").context["form"]
    admin_client.post(f"{LIST}{made.pk}/edit/", {"mode": "json", "args": form.args.replace("1", "2"), "kwargs": "{}"})
    made.refresh_from_db()
    assert (made.state, bytes(made.body)) == ("replaying", rb'[["\ud800", 2], {}, {}]')


def test_a_question_that_makes_no_sense_is_answered_in_words(admin_client):
    letter(0)
    for asked in ({"q": "a"}, {"nonsense": "1"}):
        answer = admin_client.post(REDRIVES + "new/", {**asked, "reason": "x"}, follow=True)
        assert answer.redirect_chain[-1][0] == LIST
        assert said(answer)


def test_a_reason_with_a_nul_is_kept_without_it(admin_client):
    made = letter(0)
    admin_client.post(f"{LIST}{made.pk}/discard/", {"reason": "shop\x00 closed"})
    admin_client.post(f"{LIST}error/{made.fingerprint}/note/", {"note": "ticket\x00 12"})
    assert made.events.get(kind="discarded").text == "shop closed"
    assert ErrorGroup.objects.get().note == "ticket 12"


def test_a_secret_that_is_left_alone_is_sent_as_it_was_and_never_shown(admin_client):
    body = b'[[], {"password": "hunter2", "amount": 1}, {}]'
    made = letter(0, task_name="tests.anything", queue="nobody-consumes-it", body=body)
    url = f"{LIST}{made.pk}/edit/"
    assert "hunter2" not in admin_client.get(url).text
    kept = {"mode": "json", "args": "[]", "kwargs": '{"password": "••••", "amount": 2}'}
    moved = {"mode": "json", "args": '["••••"]', "kwargs": "{}"}
    assert "write the true value" in admin_client.post(url, moved).text
    admin_client.post(url, kept)
    made.refresh_from_db()
    assert bytes(made.body).startswith(b'[[], {"password": "hunter2", "amount": 2}')
    texts = {name: made.headers[name] for name in ("argsrepr", "kwargsrepr")}
    assert texts == {"argsrepr": "()", "kwargsrepr": "{'password': '••••', 'amount': 2}"}
    told = made.events.get(kind="edited").text
    assert "hunter2" not in told
    assert '+   "amount": 2' in told
    assert "hunter2" not in str(Act.objects.get(verb="edited").details)


def test_a_sealed_letter_is_redriven_and_one_whose_message_was_not_kept_is_skipped(settings):
    settings.DEADLETTERS_KEYS = [new_key()]
    sealed, gone = letter(0, task_name="tests.anything"), letter(1, task_name="tests.anything", payload_kept=False)
    for name, value in Envelope.of(sealed).columns().items():
        setattr(sealed, name, json.loads(value) if name in {"headers", "properties"} else value)
    sealed.save()
    assert bytes(sealed.body) == b""
    one = redrive.start(Selection(), by="ana")
    driver = driver_of(one)
    driver.drive(20)
    driver.publisher.close()
    one.refresh_from_db()
    assert (one.sent, one.skipped) == (1, 1)
    assert DeadLetter.objects.get(pk=sealed.pk).state == State.REPLAYING
    assert "was not kept" in RedriveItem.objects.get(dead_letter=gone).why
