"""A replay keeps the task id and lets the workflow go on: plain task, chain, chord, chord of chains, nested chord."""

import threading

import pytest
from celery import chain, chord, group
from django.db import connection
from django_celery_results.models import TaskResult

from deadletters.models import Cause, DeadLetter, Event, State
from deadletters.replay.discard import NotDiscardable, discard, restore
from deadletters.replay.replay import NotReplayable, NotSent, replay
from deadletters.replay.workflow import sets_free
from tests.processes import eventually
from tests.rabbitmq import publishing_to
from tests.tasks import add, boom_callback, collect, count_run, die_unless, echo, replace, vanish

pytestmark = [pytest.mark.worker, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def missing(tmp_path):
    """A file that a task waits for; `.write_text("…")` mends the cause."""
    return tmp_path / "missing"


def dead(count=1):
    """The open letters, once there are `count`, with their FAILURE rows written."""
    letters = eventually(
        lambda: (found := list(DeadLetter.objects.open().order_by("id"))) and len(found) == count and found,
        what=f"{count} letters",
    )
    eventually(
        lambda: TaskResult.objects.filter(task_id__in=[x.task_id for x in letters], status="FAILURE").count() == count,
        what="FAILURE rows",
    )
    return letters


def resolved(letter):
    return eventually(
        lambda: DeadLetter.objects.filter(pk=letter.pk, state=State.RESOLVED).first(), what="the letter resolved"
    )


def test_a_replay_runs_the_same_task_id_to_success(worker, missing, admin_user):
    result = die_unless.delay(str(missing))
    (letter,) = dead()
    missing.write_text("found")
    assert replay(letter, by=admin_user, reason="put the file there") == 1
    assert resolved(letter).replay_number == 1
    assert TaskResult.objects.get(task_id=result.id).status == "SUCCESS"
    assert [event.kind for event in letter.events.all()] == ["died", "replayed", "succeeded"]
    assert letter.events.get(kind=Event.Kind.REPLAYED).actor == admin_user


def test_a_replay_that_dies_again_opens_the_same_letter(worker, missing):
    die_unless.delay(str(missing))
    (letter,) = dead()
    replay(letter, by=None)
    again = eventually(lambda: DeadLetter.objects.filter(pk=letter.pk, state=State.OPEN, deaths=2).first())
    assert again.replay_number == 1
    assert DeadLetter.objects.count() == 1
    missing.write_text("found")
    assert replay(again, by=None) == 2
    resolved(letter)


def test_a_chain_goes_on_behind_the_replayed_step(worker, missing):
    result = chain(echo.si(1), die_unless.si(str(missing), 5), add.s(1), add.s(10)).apply_async()
    (letter,) = dead()
    assert sets_free(letter).names == ["tests.add", "tests.add"]
    eventually(lambda: TaskResult.objects.filter(task_id=result.id, status="FAILURE").exists())
    missing.touch()
    replay(letter, by=None)
    assert TaskResult.objects.filter(task_id=result.id, status="FAILURE").count() == 0
    eventually(result.successful)
    assert result.get(timeout=30) == 16


def test_a_chord_completes_once_with_the_results_in_order(worker, missing, tmp_path):
    runs = tmp_path / "runs"
    result = chord([echo.si("a"), die_unless.si(str(missing), "b"), echo.si("c")])(count_run.s(path=str(runs)))
    (letter,) = dead()
    eventually(
        lambda: TaskResult.objects.filter(task_id=result.id, status="FAILURE").exists(),
        what="the body told of the death",
    )
    missing.touch()
    replay(letter, by=None)
    eventually(
        lambda: TaskResult.objects.filter(task_id=result.id, status="SUCCESS").exists(), what="the body's success"
    )
    assert runs.read_text() == '["a", "b", "c"]\n'


def test_a_chord_of_chains_completes_after_a_middle_step_is_replayed(worker, missing, tmp_path):
    runs = tmp_path / "runs"
    header = [chain(echo.si(n), add.s(1), add.s(1)) for n in (1, 2)] + [
        chain(echo.si(3), die_unless.si(str(missing), 3), add.s(2))
    ]
    result = chord(header)(count_run.s(path=str(runs)))
    (letter,) = dead()
    assert sets_free(letter).names == ["tests.add", "tests.count_run"]
    eventually(lambda: TaskResult.objects.filter(task_id=result.id, status="FAILURE").exists())
    missing.touch()
    replay(letter, by=None)
    eventually(lambda: TaskResult.objects.filter(task_id=result.id, status="SUCCESS").exists())
    assert runs.read_text() == "[3, 4, 5]\n"


def test_two_dead_members_replayed_at_the_same_instant_run_the_body_once(worker, missing, tmp_path):
    runs = tmp_path / "runs"
    result = chord([die_unless.si(str(missing), 1), echo.si(2), die_unless.si(str(missing), 3)])(
        count_run.s(path=str(runs))
    )
    letters = dead(2)
    eventually(lambda: TaskResult.objects.filter(task_id=result.id, status="FAILURE").exists())
    missing.touch()
    at_once([lambda letter=letter: replay(letter, by=None) for letter in letters])
    eventually(lambda: TaskResult.objects.filter(task_id=result.id, status="SUCCESS").exists())
    assert runs.read_text() == "[1, 2, 3]\n"


def test_the_first_of_two_dead_members_leaves_the_chord_waiting_for_the_second(worker, missing, tmp_path):
    runs = tmp_path / "runs"
    other = tmp_path / "other"
    result = chord([die_unless.si(str(missing), 1), die_unless.si(str(other), 2)])(count_run.s(path=str(runs)))
    first, second = sorted(dead(2), key=lambda letter: letter.headers["group_index"])
    missing.touch()
    replay(first, by=None)
    resolved(first)
    assert not runs.exists()
    other.touch()
    replay(second, by=None)
    eventually(lambda: TaskResult.objects.filter(task_id=result.id, status="SUCCESS").exists())
    assert runs.read_text() == "[1, 2]\n"


def test_a_nested_chord_completes_from_the_inside(worker, missing, tmp_path):
    runs = tmp_path / "runs"
    inner = chord([echo.si(1), die_unless.si(str(missing), 2)], collect.s())
    result = chord([echo.si(0), inner])(count_run.s(path=str(runs)))
    (letter,) = dead()
    missing.touch()
    replay(letter, by=None)
    eventually(lambda: TaskResult.objects.filter(task_id=result.id, status="SUCCESS").exists())
    assert runs.read_text() == "[0, [1, 2]]\n"


def test_a_chord_whose_body_is_a_group_completes(worker, missing, tmp_path):
    runs = tmp_path / "runs"
    body = group(count_run.s(path=str(runs)), count_run.s(path=str(runs)))
    chord([echo.si(1), die_unless.si(str(missing), 2)], body).apply_async()
    (letter,) = dead()
    missing.touch()
    replay(letter, by=None)
    eventually(lambda: runs.exists() and runs.read_text() == "[1, 2]\n" * 2, what="both tasks of the body")


def test_a_chain_around_a_group_goes_on(worker, missing):
    result = (echo.si(1) | group(add.s(1), die_unless.si(str(missing), 7)) | collect.s() | collect.s()).apply_async()
    (letter,) = dead()
    missing.touch()
    replay(letter, by=None)
    assert eventually(lambda: TaskResult.objects.filter(task_id=result.id, status="SUCCESS").first()).result == "[2, 7]"


def test_a_chord_member_whose_process_was_killed_comes_back(worker, missing, tmp_path):
    runs = tmp_path / "runs"
    result = chord([echo.si(1), vanish.si(str(missing))])(count_run.s(path=str(runs)))
    (letter,) = dead()
    assert letter.cause == Cause.WORKER_LOST
    missing.touch()
    replay(letter, by=None)
    eventually(lambda: TaskResult.objects.filter(task_id=result.id, status="SUCCESS").exists())
    assert runs.read_text() == '[1, "alive"]\n'


def test_errbacks_fire_at_each_death_and_callbacks_once(worker, missing, tmp_path):
    errors, runs = tmp_path / "errors", tmp_path / "runs"
    die_unless.apply_async(
        [str(missing), 3], link=count_run.s(path=str(runs)), link_error=boom_callback.si(str(errors))
    )
    (letter,) = dead()
    eventually(errors.exists)
    replay(letter, by=None)
    eventually(lambda: DeadLetter.objects.filter(pk=letter.pk, state=State.OPEN, deaths=2).first())
    eventually(lambda: errors.read_text() == "errback\n" * 2)
    missing.touch()
    replay(letter, by=None)
    eventually(runs.exists)
    assert runs.read_text() == "3\n"
    assert errors.read_text() == "errback\n" * 2


def test_an_expired_letter_runs_when_it_is_replayed(worker):
    result = echo.apply_async(["late"], expires=-5)
    letter = eventually(lambda: DeadLetter.objects.open().first())
    assert letter.cause == Cause.EXPIRED
    replay(letter, by=None)
    assert eventually(lambda: TaskResult.objects.filter(task_id=result.id, status="SUCCESS").first()).result == '"late"'


def test_five_clicks_at_once_send_one_message(worker, missing):
    die_unless.delay(str(missing))
    (letter,) = dead()
    missing.touch()
    answers = at_once([lambda: replay(letter, by=None)] * 5)
    assert min(map(str, answers), key=len) == "1"
    assert sum(isinstance(answer, NotReplayable) for answer in answers) == 4
    resolved(letter)
    assert letter.events.filter(kind=Event.Kind.REPLAYED).count() == 1


def test_a_task_that_replaces_itself_in_a_replay_opens_its_letter_again_and_resolves_it_at_last(worker, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    result = chain(replace.si(str(first), str(second)), add.s(1)).apply_async()
    (letter,) = dead()
    first.touch()
    replay(letter, by=None)
    eventually(lambda: DeadLetter.objects.filter(pk=letter.pk, state=State.OPEN, deaths=2).exists())
    second.touch()
    replay(letter, by=None)
    assert eventually(lambda: TaskResult.objects.filter(task_id=result.id, status="SUCCESS").first()).result == "8"
    resolved(letter)


def test_a_replay_that_the_broker_refuses_leaves_everything_as_dead_as_before(worker, missing):
    result = chord([echo.si(1), chain(die_unless.si(str(missing), 2), add.s(1))])(collect.s())
    (letter,) = dead()
    ids = [letter.task_id, *sets_free(letter).task_ids]
    eventually(lambda: TaskResult.objects.filter(task_id__in=ids, status="FAILURE").count() == 3)
    with publishing_to("redis://127.0.0.1:1/0"), pytest.raises(NotSent, match="The letter is open again"):
        replay(letter, by=None)
    letter.refresh_from_db()
    assert letter.state == State.OPEN
    eventually(lambda: TaskResult.objects.filter(task_id__in=ids, status="FAILURE").count() == 3)
    missing.touch()
    assert replay(letter, by=None) == 2
    assert eventually(lambda: TaskResult.objects.filter(task_id=result.id, status="SUCCESS").first()).result == "[1, 3]"


def test_big_integers_and_dates_come_back_as_they_were(worker, missing, tmp_path):
    runs = tmp_path / "runs"
    values = {"big": 2**80, "float": 0.1, "text": "日本\u2028", "null": None, "deep": [[1], {"a": [True]}]}
    chain(die_unless.si(str(missing), values), count_run.s(path=str(runs))).apply_async(priority=5)
    (letter,) = dead()
    missing.touch()
    replay(letter, by=None)
    eventually(runs.exists)
    import json

    assert json.loads(runs.read_text()) == values


def test_discard_needs_a_reason_and_can_be_taken_back(db, admin_user):
    letter = DeadLetter.objects.create(task_id="1", task_name="t", cause=Cause.EXCEPTION, died_at="2026-01-01T00:00Z")
    with pytest.raises(NotDiscardable, match="why"):
        discard(letter, by=admin_user, reason=" ")
    discard(letter, by=admin_user, reason="known")
    with pytest.raises(NotReplayable, match="restore"):
        replay(letter, by=admin_user)
    restore(letter, by=admin_user)
    assert [event.kind for event in letter.events.all()] == ["discarded", "restored"]


def at_once(calls):
    """What each call returned or raised, all started at the same instant, each in a thread with its own connection."""
    answers, barrier = [], threading.Barrier(len(calls))

    def run(call):
        barrier.wait()
        try:
            answers.append(call())
        except Exception as problem:
            answers.append(problem)
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=[call]) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers
