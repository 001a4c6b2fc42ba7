"""Who hears of a new letter, without the worker waiting for it."""

import json

import pytest
import redis
from django.conf import settings

from deadletters.models import DeadLetter
from tests.processes import Worker, eventually
from tests.tasks import die, echo

pytestmark = [pytest.mark.worker, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def lonely_worker(tmp_path):
    """Starts a worker with an environment of its own, on a queue of its own."""
    started = []

    def start(queue, **extra):
        started.append(Worker(tmp_path, queue=queue, concurrency=1, **extra))
        return started[-1]

    yield start
    for process in started:
        process.stop()


def test_a_letter_is_pushed_to_the_redis_list(lonely_worker):
    lonely_worker("listed", DEADLETTERS_REDIS_LIST="dead_letter_queue")
    die.apply_async(["no luck"], {"tenant": 7}, queue="listed")
    with redis.Redis.from_url(settings.CELERY_BROKER_URL) as client:
        entry = json.loads(eventually(lambda: client.blpop(["dead_letter_queue"], timeout=1))[1])
    letter = DeadLetter.objects.get()
    assert entry == {
        "task_id": letter.task_id,
        "task_name": "tests.die",
        "args": ["no luck"],
        "kwargs": {"tenant": 7},
        "exception": "ValueError: no luck",
        "failed_at": letter.died_at.isoformat(),
    }


def test_a_list_that_cannot_be_reached_breaks_nothing(lonely_worker):
    worker = lonely_worker("unreachable", DEADLETTERS_REDIS_LIST="dead_letter_queue", REDIS_URL="redis://127.0.0.1:1/0")
    die.apply_async(queue="unreachable")
    assert echo.apply_async([1], queue="unreachable").get(timeout=30) == 1
    worker.wait_for("dead_letter.listener_failed")
    assert DeadLetter.objects.count() == 1
