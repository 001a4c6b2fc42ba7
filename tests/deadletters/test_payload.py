"""Who may read what is masked, how, and that it is noted."""

import json

import pytest
from django.contrib.auth.models import Permission
from django.core.exceptions import PermissionDenied
from django.core.management import CommandError, call_command
from django.test import Client

from config.groups import GROUPS
from deadletters.models import Act, Event
from deadletters.secrets.payload import masked, read
from deadletters.secrets.redact_text import MASK
from tests.deadletters.letters import letter

pytestmark = pytest.mark.django_db


@pytest.fixture
def made():
    body = json.dumps(
        [
            ["hunter2", 5],
            {"password": "hunter2"},
            {"chain": [{"task": "b", "args": [], "kwargs": {"token": "hunter2"}}]},
        ]
    )
    return letter(body=body.encode(), headers={"argsrepr": "('hunter2', 5)", "kwargsrepr": "{}", "id": "1"})


@pytest.fixture
def secret_first(settings):
    settings.DEADLETTERS_REDACT_TASKS = {"shop.price_partition": [0]}


def somebody(django_user_model, *codenames):
    user = django_user_model.objects.create_user("eve", password="password", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    client = Client()
    client.force_login(user)
    return client, user


def page(made, act=""):
    return f"/deadletters/deadletter/{made.pk}/{act or 'change'}/"


def test_whoever_may_see_the_letter_sees_it_masked(django_user_model, made, secret_first):
    client, _user = somebody(django_user_model, "view_deadletter")
    text = client.get(page(made)).text
    assert "hunter2" not in text
    assert MASK in text
    assert "Show payload" not in text
    assert client.post(page(made, "payload")).status_code == 403
    assert not Event.objects.filter(kind=Event.Kind.READ).exists()


def test_a_payload_is_shown_to_whoever_may_read_it_and_that_is_noted(django_user_model, made, secret_first):
    client, user = somebody(django_user_model, "view_deadletter", "view_payload")
    assert "Show payload" in client.get(page(made)).text
    assert client.get(page(made, "payload")).status_code == 405
    response = client.post(page(made, "payload"))
    assert response.text.count("hunter2") >= 3
    assert "no-store" in response.headers["Cache-Control"]
    assert "by eve" in client.get(page(made)).text
    event = Event.objects.get(kind=Event.Kind.READ)
    assert (event.dead_letter, event.actor) == (made, user)
    made.delete()  # as pruning does
    act = Act.objects.get(verb=Act.Verb.PAYLOAD_READ)
    assert (act.who, act.subject, act.origin.startswith("/deadletters/")) == ("eve", "shop.price_partition", True)


def test_the_post_needs_a_token_of_the_form(admin_user, made):
    client = Client(enforce_csrf_checks=True)
    client.force_login(admin_user)
    assert client.post(page(made, "payload")).status_code == 403


def test_the_command_reads_it_as_somebody_and_notes_that(django_user_model, made, capsys):
    _client, user = somebody(django_user_model, "view_payload")
    call_command("show_dead_letter", str(made.pk))
    assert 'hunter2", 5' in capsys.readouterr().out  # no rule names it
    call_command("show_dead_letter", str(made.pk), "--payload", "--as", "eve", "--json")
    assert json.loads(capsys.readouterr().out)["kwargs"] == {"password": "hunter2"}
    assert Event.objects.get(kind=Event.Kind.READ).actor == user
    assert Act.objects.get().origin.startswith("manage.py show_dead_letter")


@pytest.mark.parametrize(
    ("who", "words"),
    [("", "needs --as USER"), ("nobody", "no user 'nobody'"), ("eve", "deadletters.view_payload is missing")],
)
def test_the_command_refuses_whoever_may_not(django_user_model, made, who, words):
    somebody(django_user_model, "view_deadletter")
    with pytest.raises(CommandError, match=words) as refusal:
        call_command("show_dead_letter", str(made.pk), "--payload", "--as", who)
    assert refusal.value.returncode == 2
    assert not Event.objects.filter(kind=Event.Kind.READ).exists()


def test_reading_is_refused_by_the_verb_itself(django_user_model, made):
    _client, user = somebody(django_user_model)
    with pytest.raises(PermissionDenied):
        read(made, by=user)


def test_neither_group_may_read_payloads_unless_somebody_says_so():
    assert not any("deadletters.view_payload" in names for names in GROUPS.values())


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (b'{"password": "hunter2", "a": 1}', {"password": MASK, "a": 1}),
        (b"password=hunter2 a=1", {"text": f"password={MASK} a=1"}),
        (b"\xffhunter2", {"base64": MASK}),
    ],
)
def test_a_body_that_is_no_task_is_masked_too(body, shown):
    assert masked(letter(body=body)).envelope["body"] == shown


def test_old_texts_are_masked_where_they_are_shown(admin_client, settings, capsys):
    made = letter(
        exception_message="shoe=hunter2", traceback='Traceback:\n  File "a.py", line 1, in b\nE: shoe=hunter2'
    )
    assert "hunter2" in admin_client.get(page(made)).text
    settings.DEADLETTERS_REDACT_NAMES = ["shoe"]
    call_command("show_dead_letter", str(made.pk))
    call_command("list_dead_letters")
    places = [page(made), "/deadletters/deadletter/", "/deadletters/deadletter/by-error/", "/"]
    said = [admin_client.get(address).text for address in places]
    assert not [text for text in [*said, capsys.readouterr().out] if "hunter2" in text]
    call_command("reseal_dead_letters", "--mask", "--json")
    made.refresh_from_db()
    assert f"{made.exception_message}{made.traceback}".count(MASK) == 2
