import uuid
from datetime import timedelta

import pytest
from django.utils import timezone
from django_celery_results.models import GroupResult, TaskResult

from deadletters.models import Cause, DeadLetter, State
from pipelines import prune
from pipelines.models import Chord, Run, Step

pytestmark = pytest.mark.django_db

OLD, KEEP = timedelta(days=100), timedelta(days=90)


def result(task_id=None, ago=OLD, status="SUCCESS"):
    row = TaskResult.objects.create(task_id=task_id or str(uuid.uuid4()), status=status)
    TaskResult.objects.filter(pk=row.pk).update(date_done=timezone.now() - ago)  # auto_now
    return row.task_id


def letter(task_id, state=State.OPEN, ago=OLD, **fields):
    died = timezone.now() - ago
    return DeadLetter.objects.create(task_id=task_id, state=state, cause=Cause.EXCEPTION, died_at=died, **fields)


def chord(state, header, ago=OLD, **fields):
    row = Chord.objects.create(group_id=str(uuid.uuid4()), header=header, state=state, **fields)
    Chord.objects.filter(pk=row.pk).update(created_at=timezone.now() - ago, updated_at=timezone.now() - ago)
    return row


def run(*task_ids, ago=OLD):
    row = Run.objects.create(pipeline="images", tree={}, result_id=str(uuid.uuid4()))
    Run.objects.filter(pk=row.pk).update(created_at=timezone.now() - ago)
    for position, task_id in enumerate(task_ids):
        Step.objects.create(run=row, position=position, task_id=task_id, task_name="a")
    return row


def left():
    return set(TaskResult.objects.values_list("task_id", flat=True))


def test_old_results_go_and_young_ones_stay():
    result()
    young = result(ago=timedelta(days=89))
    assert prune.prune_results(KEEP) == 1
    assert left() == {young}


def test_a_dry_run_counts_and_deletes_nothing():
    result()
    assert prune.prune_results(KEEP, dry_run=True) == 1
    assert len(left()) == 1


def test_more_than_one_batch_goes_in_one_call(monkeypatch):
    monkeypatch.setattr(prune, "BATCH", 2)
    for _ in range(5):
        result()
    assert prune.prune_results(KEEP) == 5


@pytest.mark.parametrize("state", [State.OPEN, State.REPLAYING])
def test_the_result_of_a_letter_that_waits_stays(state):
    mine = result(status="FAILURE")
    letter(mine, state)
    assert prune.prune_results(KEEP) == 0


@pytest.mark.parametrize("state", [State.RESOLVED, State.DISCARDED])
def test_the_result_of_a_finished_letter_goes(state):
    letter(result(), state)
    assert prune.prune_results(KEEP) == 1


def test_all_results_of_a_run_stay_while_one_of_its_letters_waits():
    dead, sibling = result(status="FAILURE"), result()
    result()
    run(dead, sibling)
    letter(dead)
    assert prune.prune_results(KEEP) == 1
    assert left() == {dead, sibling}
    assert prune.prune_runs(KEEP) == 0


def test_a_run_that_stays_keeps_all_of_its_results():
    """It would show its first step as one that waits, and itself as running."""
    early, late = result(), result(ago=timedelta(days=1))
    run(early, late)
    gone = result()
    run(gone)
    assert prune.prune_results(KEEP, dry_run=True) == 1
    assert prune.prune_runs(KEEP) == 1
    assert prune.prune_results(KEEP) == 1
    assert left() == {early, late}


@pytest.mark.parametrize("state", [Chord.State.WAITING, Chord.State.FAILED, Chord.State.DISPATCHING])
def test_what_an_unfinished_chord_collects_stays_however_deep(state):
    first, nested, body = result(), result(), result()
    other = result()
    chord(state, [[[first, None], None], [[str(uuid.uuid4()), None], [[[nested, None], None]]]], body_id=body)
    assert prune.prune_results(KEEP) == 1
    assert left() == {first, nested, body}
    assert other not in left()


def test_what_a_finished_chord_collected_goes():
    part = result()
    chord(Chord.State.DONE, [[[part, None], None]])
    assert prune.prune_results(KEEP) == 1


def test_finished_chords_go_waiting_ones_stay_and_failed_ones_while_a_letter_of_their_time_waits():
    chord(Chord.State.DONE, [])
    waiting, failed = chord(Chord.State.WAITING, []), chord(Chord.State.FAILED, [])
    letter(str(uuid.uuid4()))  # a step of a chain in the header: it carries no group id
    assert prune.prune_chords(KEEP) == 1
    assert set(Chord.objects.all()) == {waiting, failed}
    DeadLetter.objects.update(state=State.DISCARDED)
    letter(str(uuid.uuid4()), ago=timedelta(days=50))
    assert prune.prune_chords(KEEP) == 1
    assert list(Chord.objects.all()) == [waiting]


def test_a_saved_group_stays_while_a_letter_of_it_waits():
    for group_id in ("mine", "other"):
        GroupResult.objects.create(group_id=group_id)
    GroupResult.objects.update(date_done=timezone.now() - OLD)
    letter(str(uuid.uuid4()), group_id="mine")
    assert prune.prune_results(KEEP) == 1
    assert GroupResult.objects.get().group_id == "mine"


def test_old_runs_go_with_their_steps_unless_something_of_them_happened_lately():
    gone = run(result(), result())
    alive = run(result(), result(ago=timedelta(days=1)))
    young = run(str(uuid.uuid4()), ago=timedelta(days=1))
    assert prune.prune_runs(KEEP, dry_run=True) == 1
    assert prune.prune_runs(KEEP) == 1
    assert set(Run.objects.all()) == {alive, young}
    assert not Step.objects.filter(run_id=gone.pk).exists()
