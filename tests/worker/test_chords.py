"""The barrier, where the process dies at the worst moment: the sweeper looks, and settles."""

import math
from datetime import UTC, datetime, timedelta

import pytest
from celery import chain, chord, current_app
from celery.exceptions import ChordError
from django.utils import timezone
from django_celery_results.models import TaskResult

from deadletters.models import BegunCopy
from pipelines import chords
from pipelines.models import Chord
from tests.processes import eventually
from tests.tasks import collect, collect_with, count_run, die, echo, sleep_silently

pytestmark = [pytest.mark.worker, pytest.mark.django_db(transaction=True)]


def finished_chord(runs):
    result = chord([echo.si(1), echo.si(2)])(count_run.s(path=str(runs)))
    eventually(lambda: TaskResult.objects.filter(task_id=result.id, status="SUCCESS").exists())
    return Chord.objects.get(body_id=result.id)


def left_behind(barrier, state):
    Chord.objects.filter(pk=barrier.pk).update(state=state, updated_at=timezone.now() - timedelta(minutes=5))


def test_parts_that_are_all_in_but_were_never_counted_send_the_body(worker, tmp_path):
    runs = tmp_path / "runs"
    barrier = finished_chord(runs)
    TaskResult.objects.filter(task_id=barrier.body_id).delete()
    BegunCopy.objects.all().delete()
    runs.unlink()
    left_behind(barrier, Chord.State.WAITING)
    assert chords.sweep(current_app.backend) == 1
    eventually(runs.exists)
    assert runs.read_text() == "[1, 2]\n"
    assert chords.sweep(current_app.backend) == 0


def test_a_body_that_was_sent_before_the_crash_is_not_sent_twice(worker, tmp_path):
    runs = tmp_path / "runs"
    barrier = finished_chord(runs)
    left_behind(barrier, Chord.State.DISPATCHING)
    assert chords.sweep(current_app.backend) == 1
    barrier.refresh_from_db()
    assert barrier.state == Chord.State.DONE
    assert runs.read_text() == "[1, 2]\n"


def test_a_chord_whose_parts_still_run_is_left_alone(worker, tmp_path):
    barrier = finished_chord(tmp_path / "runs")
    TaskResult.objects.filter(task_id=next(chords.leaves(barrier.header))).update(status="STARTED")
    left_behind(barrier, Chord.State.WAITING)
    assert chords.sweep(current_app.backend) == 0


def test_a_result_that_nobody_can_read_holds_up_no_other_chord(worker, tmp_path):
    """As after a change of the serializer, or an edit by hand."""
    broken, sound = finished_chord(tmp_path / "broken"), finished_chord(tmp_path / "sound")
    TaskResult.objects.filter(task_id=next(chords.leaves(broken.header))).update(result="no JSON")
    TaskResult.objects.filter(task_id__in=[broken.body_id, sound.body_id]).delete()
    BegunCopy.objects.all().delete()
    (tmp_path / "sound").unlink()
    for barrier in (broken, sound):
        left_behind(barrier, Chord.State.WAITING)
    assert chords.sweep(current_app.backend) == 1
    eventually((tmp_path / "sound").exists)
    broken.refresh_from_db()
    assert broken.state == Chord.State.WAITING


def test_a_part_whose_result_is_ignored_counts(worker):
    by_message = chord([echo.si(1), echo.si(2).set(ignore_result=True)])(collect.s())
    assert by_message.get(timeout=20) == [1, 2]
    by_task = chord([echo.si(1), sleep_silently.si(0)])(collect.s())
    assert by_task.get(timeout=20) == [1, None]


@pytest.mark.parametrize(
    "header",
    [lambda: [die.si().set(ignore_result=True)], lambda: [chain(die.si().set(ignore_result=True), echo.si(1))]],
    ids=["part", "before a part"],
)
def test_a_death_whose_result_is_ignored_fails_the_chord(worker, header):
    body = chord(header())(collect.s()).id
    with pytest.raises(ChordError):
        current_app.AsyncResult(body).get(timeout=20)  # without its parents, which may be asked first


@pytest.mark.parametrize(
    "given",
    [
        "a\0b",
        "half a pair \ud800",
        math.nan,
        math.inf,
        1e22,
        -0.0,
        10**50,
        {"b": 1, "a": 2},
        datetime(2026, 1, 2, tzinfo=UTC),
    ],
    ids=["nul", "surrogate", "nan", "inf", "1e22", "-0.0", "big", "order", "datetime"],
)
def test_a_body_is_called_with_the_arguments_that_it_was_given(worker, given):
    result = chord([echo.si(1)])(collect_with.s(given=given))
    assert repr(result.get(timeout=20)) == repr([[1], given])
