"""The commands as an SRE types them."""

import json

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission

from deadletters.models import Cause, DeadLetter, State
from tests.processes import eventually, manage
from tests.tasks import die, die_unless

pytestmark = [pytest.mark.worker, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def letters(worker, tmp_path):
    """Two dead letters of one task that waits for a file, and one of another."""
    missing = tmp_path / "missing"
    first = die_unless.delay(str(missing), "日本")
    die_unless.delay(str(missing), 2)
    die.delay()
    eventually(lambda: DeadLetter.objects.open().count() == 3)
    return missing, first.id


def listed(*arguments):
    done = manage("list_dead_letters", "--json", *arguments)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_letters_are_listed_shown_replayed_and_discarded(letters):
    assert len(listed()) == 3
    (one,) = listed("--task", "tests.die")
    assert (one["exception"], one["message"], one["cause"]) == ("ValueError", "no luck", "exception")
    assert len(listed("--search", "missing", "--since", "1h")) == 2
    assert listed("--since", "2099-01-01 00:00") == []
    assert "tests.die_unless" in manage("list_dead_letters").stdout

    missing, first = letters
    shown = manage("show_dead_letter", first)
    assert "FileNotFoundError in tests.die_unless: Open" in shown.stdout
    assert "日本" in shown.stdout
    assert "Traceback" in shown.stdout

    missing.touch()
    dry = manage("replay_dead_letters", "--task", "tests.die_unless", "--dry-run")
    assert "Would replay 2 letters: 0 replayable, 2 needs a look, 0 blocked. Nothing was sent." in dry.stdout
    assert "This process does not know the task" in dry.stdout  # only the worker imports the tests' tasks
    checked = json.loads(manage("replay_dead_letters", "--all", "--dry-run", "--json").stdout)
    assert (checked["would_send"], checked["look"], checked["blocked"]) == (3, 3, 0)
    assert {one["verdict"] for one in checked["letters"]} == {"look"}
    done = manage("replay_dead_letters", "--task", "tests.die_unless", "--reason", "the file is there", "--json")
    told = json.loads(done.stdout)
    assert (done.returncode, told["total"], told["sent"], told["skipped"]) == (0, 2, 2, 0)
    (one_redrive,) = json.loads(manage("redrives", "--json").stdout)
    assert (one_redrive["id"], one_redrive["reason"]) == (told["redrive"], "the file is there")
    assert one_redrive["origin"].startswith("manage.py replay_dead_letters (")
    eventually(lambda: DeadLetter.objects.filter(state=State.RESOLVED).count() == 2)

    assert manage("discard_dead_letters", str(one["id"])).returncode == 2
    done = manage("discard_dead_letters", str(one["id"]), "--reason", "never mind")
    assert (done.returncode, done.stdout) == (0, "Discarded 1 letters.\n")
    refused = manage("replay_dead_letters", str(one["id"]), "--state", "discarded")
    assert refused.returncode == 1
    assert "restore the letter first" in refused.stderr
    assert manage("restore_dead_letters", str(one["id"])).stdout == "Restored 1 letters.\n"
    sent = manage("replay_dead_letters", str(one["id"]), "--reason", "once more", "--json")
    assert json.loads(sent.stdout) == {"sent": 1, "refused": []}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["replay_dead_letters"], "say --all"),
        (["replay_dead_letters", "nothing-like-that"], "No dead letter has the number or task id nothing-like-that"),
        (["show_dead_letter", "0"], "No dead letter"),
        (["list_dead_letters", "--since", "yesterdayish"], "is no time"),
        (["list_dead_letters", "--cause", "boredom"], "invalid choice"),
        (["discard_dead_letters", "--all", "--as", "nobody-here"], "There is no user"),
        (["replay_dead_letters", "--all", "--rate", "fast"], "are numbers"),
        (["replay_dead_letters", "--all", "--rate", "1e-300"], "from 0.001"),
        (["replay_dead_letters", "--all", "--stop-above", "120%"], "from 0 to 100"),
        (["replay_dead_letters", "--task", "no.such"], "nothing to replay"),
        (["replay_dead_letters", "--task", "no.such", "--state", "discarded"], "Only open letters are replayed"),
        (["list_dead_letters", "--search", "ab"], "3 letters or more"),
        (["redrives", "--pause", "999"], "There is no redrive 999"),
    ],
)
def test_wrong_usage_is_one_sentence_and_exit_2(db, arguments, says):
    done = manage(*arguments)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_acting_as_a_user_needs_that_users_permission_and_is_recorded(transactional_db):
    ana = get_user_model().objects.create_user("ana")
    letter = DeadLetter.objects.create(task_id="1", task_name="t", cause=Cause.EXCEPTION, died_at="2026-01-01T00:00Z")
    refused = manage("discard_dead_letters", "1", "--as", "ana", "--reason", "x")
    assert refused.returncode == 2
    assert "lacks the permission" in refused.stderr
    ana.user_permissions.add(Permission.objects.get(codename="discard_deadletter"))
    assert manage("discard_dead_letters", "1", "--as", "ana", "--reason", "x").returncode == 0
    assert letter.events.get().actor == ana


@pytest.mark.parametrize(
    ("command", "permission"),
    [
        (["replay_dead_letters", "1"], "replay_deadletter"),
        (["replay_dead_letters", "--all"], "start_redrive"),
        (["discard_dead_letters", "1", "--reason", "x"], "discard_deadletter"),
        (["restore_dead_letters", "1", "--state", "discarded"], "discard_deadletter"),
        (["redrives", "--pause", "1"], "start_redrive"),
    ],
)
def test_no_command_acts_as_somebody_who_may_not(transactional_db, command, permission):
    get_user_model().objects.create_user("ana")
    DeadLetter.objects.create(task_id="1", task_name="t", cause=Cause.EXCEPTION, died_at="2026-01-01T00:00Z")
    refused = manage(*command, "--as", "ana")
    assert refused.returncode == 2
    assert f"lacks the permission deadletters.{permission}" in refused.stderr
    assert DeadLetter.objects.get().state == State.OPEN


def test_help_teaches(db):
    text = manage("replay_dead_letters", "--help").stdout
    assert "Examples:" in text
    assert "manage.py replay_dead_letters 42" in text
