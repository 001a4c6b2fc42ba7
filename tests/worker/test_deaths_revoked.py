"""What an operator revokes is no death, unless a setting says that it is to be kept."""

import pytest
from celery import current_app
from celery.exceptions import TaskRevokedError

from deadletters.models import Cause, DeadLetter, State
from deadletters.replay.replay import replay
from tests import tasks
from tests.processes import Worker, eventually

pytestmark = [pytest.mark.worker, pytest.mark.django_db(transaction=True)]


def terminated(tmp_path, queue, task):
    """A task of that queue that was running when it was terminated, and the file that releases it."""
    log, release = tmp_path / f"log {task.name}", tmp_path / "release"
    result = task.apply_async([str(log), str(release)], queue=queue)
    eventually(log.exists)
    current_app.control.revoke(result.id, terminate=True, signal="SIGKILL")
    with pytest.raises(TaskRevokedError):
        result.get(timeout=60)
    return result, release


def test_a_task_that_was_revoked_or_terminated_is_not_dead(worker, tmp_path):
    waiting = tasks.echo.apply_async([1], countdown=2)
    current_app.control.revoke(waiting.id)
    for task in (tasks.hold, current_app.tasks["tests.hold.early"]):
        terminated(tmp_path, "default", task)
    with pytest.raises(TaskRevokedError):
        waiting.get(timeout=60)
    assert tasks.echo.delay(1).get(timeout=30) == 1
    assert not DeadLetter.objects.exists()


def test_where_revoked_tasks_are_kept_each_is_a_letter_that_can_be_replayed(tmp_path):
    process = Worker(tmp_path, queue="kept", DEADLETTERS_KEEP_REVOKED="true")
    try:
        for task in (tasks.hold, current_app.tasks["tests.hold.early"]):
            result, release = terminated(tmp_path, "kept", task)
            letter = eventually(lambda r=result: DeadLetter.objects.filter(task_id=r.id).first())
            assert (letter.cause, letter.state, letter.deaths) == (Cause.REVOKED, State.OPEN, 1)
            release.touch()
            replay(letter, by=None)
            eventually(lambda pk=letter.pk: DeadLetter.objects.filter(pk=pk, state=State.RESOLVED).exists())
            release.unlink()
    finally:
        process.stop()
