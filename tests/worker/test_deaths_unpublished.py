"""The task itself has run, but the broker was away when its next message had to be sent: said, and replayable."""

from contextlib import nullcontext

import pytest
from celery import chain, current_app
from django_celery_results.models import TaskResult

from deadletters.models import Cause, DeadLetter
from tests import tasks
from tests.processes import Worker, eventually
from tests.rabbitmq import publishing_to

pytestmark = [pytest.mark.worker, pytest.mark.django_db(transaction=True)]


@pytest.mark.parametrize("name", ["redis", pytest.param("rabbitmq", marks=pytest.mark.rabbitmq)])
def test_a_callback_a_chain_and_a_retry_that_cannot_be_published_are_a_letter_each(name, request, tmp_path):
    url = request.getfixturevalue("rabbitmq_url") if name == "rabbitmq" else ""
    # Each process lives for one task: the task cuts it off from the broker.
    worker = Worker(
        tmp_path, "--max-tasks-per-child=1", queue="mute", concurrency=1, **({"BROKER_URL": url} if url else {})
    )
    try:
        with publishing_to(url, confirm_publish=True) if url else nullcontext():
            mute, step = tasks.mute.s().set(queue="mute"), tasks.echo.si(1).set(queue="mute")
            linked = mute.apply_async(link=step)
            retried = mute.apply_async(kwargs={"retries": True})
            first = chain(mute.clone(), step).apply_async()
            for result in (linked, retried, first.parent):
                letter = eventually(lambda r=result: DeadLetter.objects.filter(task_id=r.id).first(), what="a letter")
                assert (letter.cause, letter.deaths) == (Cause.PUBLISH_FAILED, 1)
                eventually(lambda r=result: TaskResult.objects.filter(task_id=r.id, status="FAILURE").exists())
            assert eventually(lambda: TaskResult.objects.filter(task_id=first.id, status="FAILURE").exists())
            assert current_app.tasks["tests.echo"].apply_async([2], queue="mute").get(timeout=30) == 2
        assert DeadLetter.objects.count() == 3
    finally:
        worker.stop()
