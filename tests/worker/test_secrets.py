"""Secrets of a task that died: seen nowhere, sealed in the table, and whole again in the replay."""

import json
import uuid
from dataclasses import asdict

import pytest
import redis
from celery import chain, current_app
from django.conf import settings
from django.db import connection
from django.test import override_settings
from django_celery_results.models import TaskResult

from deadletters.envelope import Envelope
from deadletters.models import Cause, DeadLetter, Event, State
from deadletters.replay.replay import NotReplayable, replay
from deadletters.replay.workflow import sets_free
from deadletters.secrets import seal
from deadletters.secrets.payload import masked
from deadletters.secrets.redact_text import MASK
from tests.processes import Worker, eventually, manage
from tests.tasks import echo, pay

pytestmark = [pytest.mark.worker, pytest.mark.django_db(transaction=True)]

SECRETS = ("DE0212030000", "tok-7f3a9c", "hunter2hunter2")
KEY = seal.new_key()
LIST = "secrets_of_dead_letters"


@pytest.fixture(scope="module")
def sealing(django_db_setup, tmp_path_factory):
    """A worker with a key."""
    folder = tmp_path_factory.mktemp("sealing")
    extra = {"DEADLETTERS_KEYS": KEY, "DEADLETTERS_REDIS_LIST": LIST, "LOG_FORMAT": "json"}
    process = Worker(folder, queue="sealed", concurrency=1, **extra)
    yield process
    process.stop()


@pytest.fixture
def dead(sealing, tmp_path):
    """A sealed letter of a task with secrets, in a chain."""
    path = tmp_path / "paid"
    account, token, password = SECRETS
    first = pay.si("bob", account, token, path=str(path), password=password, tries=3).set(queue="sealed")
    sent = chain(first, echo.si("after").set(queue="sealed")).apply_async()
    letter = eventually(lambda: DeadLetter.objects.filter(task_name="tests.pay").first())
    eventually(lambda: TaskResult.objects.filter(task_id=letter.task_id, status="FAILURE").exists())
    with override_settings(DEADLETTERS_KEYS=[KEY]):
        yield letter, path, sent


def seen(text):
    return [secret for secret in SECRETS if secret in text]


def test_no_secret_is_seen_anywhere(sealing, dead, admin_client):
    letter, _path, _sent = dead
    with redis.Redis.from_url(settings.CELERY_BROKER_URL) as client:
        entry = json.loads(eventually(lambda: client.blpop([LIST], timeout=1))[1])
    assert (entry["args"][:3], entry["kwargs"]["password"], entry["kwargs"]["tries"]) == (["bob", MASK, MASK], MASK, 3)
    places = {
        "list": json.dumps(entry, ensure_ascii=False),
        "log": sealing.output,
    }
    result = TaskResult.objects.get(task_id=letter.task_id)
    for name, address in {
        "page": f"/deadletters/deadletter/{letter.pk}/change/",
        "letters": "/deadletters/deadletter/?state=all",
        "errors": "/deadletters/deadletter/by-error/",
        "dashboard": "/",
        "result": f"/django_celery_results/taskresult/{result.pk}/change/",
        "results": "/django_celery_results/taskresult/",
    }.items():
        response = admin_client.get(address)
        assert response.status_code == 200, address
        places[name] = response.text
    for command in (["list_dead_letters"], ["list_dead_letters", "--json"], ["show_dead_letter", str(letter.pk)], ["show_dead_letter", "--json", str(letter.pk)]):  # fmt: skip
        done = manage(*command, DEADLETTERS_KEYS=KEY)
        assert done.returncode == 0, done.stderr
        places[" ".join(command)] = done.stdout
    assert {name: seen(text) for name, text in places.items() if seen(text)} == {}
    assert MASK in places["page"]
    assert "tests.pay" in places["log"]
    for secret in SECRETS:
        assert letter.pk not in [
            row.pk for row in admin_client.get(f"/deadletters/deadletter/?q={secret}").context["cl"].result_list
        ]


def test_the_tables_hold_no_secret_either(dead):
    letter, _path, _sent = dead
    with connection.cursor() as cursor:
        for table in ("deadletters_deadletter", "deadletters_event", "django_celery_results_taskresult"):
            cursor.execute(f"SELECT string_agg(row::text, '') FROM {table} row")
            text = cursor.fetchone()[0]
            assert seen(text) == [], table
            for secret in SECRETS:
                assert secret.encode().hex() not in text, table
    assert (bytes(letter.body), letter.headers, letter.properties) == (b"", {}, {})
    assert (letter.queue, letter.seal_key) == ("sealed", seal.key_id(KEY))


def test_the_replay_of_a_sealed_letter_gets_the_true_arguments_and_its_chain_goes_on(dead):
    letter, path, sent = dead
    assert sets_free(letter).names == ["tests.echo"]
    path.touch()
    replay(letter, by=None)
    assert sent.get(timeout=60) == "after"
    account, token, password = SECRETS
    assert json.loads(path.read_text()) == ["bob", account, token, {"password": password, "tries": 3}]
    eventually(lambda: DeadLetter.objects.get(pk=letter.pk).state == State.RESOLVED)


def test_a_letter_whose_key_is_lost_says_so_everywhere(dead, admin_client, settings):
    letter, path, _sent = dead
    path.touch()
    settings.DEADLETTERS_KEYS = [seal.new_key()]
    with pytest.raises(NotReplayable, match=f"sealed with the key {letter.seal_key}, which is not in DEADLETTERS_KEYS"):
        replay(letter, by=None)
    assert DeadLetter.objects.get(pk=letter.pk).state == State.OPEN
    assert sets_free(letter).names == []
    words = f"The payload is sealed with the key {letter.seal_key}"
    assert words in admin_client.get(f"/deadletters/deadletter/{letter.pk}/change/").text
    assert words in admin_client.post(f"/deadletters/deadletter/{letter.pk}/payload/").text
    for arguments in ([], ["--json"]):
        done = manage("show_dead_letter", str(letter.pk), *arguments)
        assert (done.returncode, words in done.stdout) == (0, True)
    refused = manage("replay_dead_letters", str(letter.pk))
    assert (refused.returncode, words in refused.stderr) == (1, True)
    assert not Event.objects.filter(kind=Event.Kind.READ).exists()


def test_what_never_became_a_task_is_masked_too(sealing, settings):
    settings.DEADLETTERS_REDACT_TASKS = {"tests.nobody_knows": [0]}  # for the texts of the arguments in the headers
    secret = "hunter2hunter2"
    current_app.send_task("tests.nobody_knows", [secret], {"password": secret}, queue="sealed")
    headers = {"task": "tests.echo", "id": str(uuid.uuid4()), "lang": "py", "timelimit": "soon"}
    undecodable = {**headers, "id": str(uuid.uuid4()), "timelimit": None}
    with current_app.producer_or_acquire() as producer:
        for body, kind, about in (
            (json.dumps({"password": secret}), "application/json", {}),
            (f"password={secret}", "text/plain", {}),
            (json.dumps([[secret]]), "application/json", {}),
            (json.dumps([[secret], {}, {}]), "application/json", headers),
            (f"{secret} is no JSON", "application/json", undecodable),
        ):
            producer.publish(
                body, routing_key="sealed", exchange="", content_type=kind, content_encoding="utf-8", headers=about
            )
    letters = eventually(lambda: (found := list(DeadLetter.objects.all())) and len(found) == 6 and found)
    # With it everything before it is logged.
    assert echo.apply_async(["the last"], queue="sealed").get(timeout=30) == "the last"
    assert "tests.nobody_knows" in sealing.output
    assert seen(sealing.output) == []
    causes = {Cause.UNKNOWN_TASK, Cause.UNKNOWN_MESSAGE, Cause.INVALID, Cause.UNDECODABLE}
    assert causes == {letter.cause for letter in letters}
    with override_settings(DEADLETTERS_KEYS=[KEY]):
        assert all(seen(Envelope.of(letter).body.decode()) for letter in letters)
        named = [letter for letter in letters if "password" in Envelope.of(letter).body.decode()]
        assert [seen(json.dumps(asdict(masked(letter)))) for letter in named] == [[], [], []]
