import pytest
from celery import chain, group
from kombu import Connection

from config.celery import app
from tests.processes import Worker, eventually
from tests.tasks import echo

pytestmark = [pytest.mark.worker, pytest.mark.rabbitmq, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def rabbit_worker(rabbitmq_url: str, folder):
    process = Worker(folder, BROKER_URL=rabbitmq_url)
    yield process
    process.stop()


def test_a_worker_on_rabbitmq_runs_tasks_chains_and_groups(rabbit_worker, rabbitmq_url):
    with app.connection_for_write(rabbitmq_url) as connection:
        alone = echo.apply_async(("alone",), connection=connection)
        chained = chain(echo.s("first"), echo.s()).apply_async(connection=connection)
        grouped = group(echo.s(number) for number in range(3)).apply_async(connection=connection)
        assert alone.get(timeout=60) == "alone"
        assert chained.get(timeout=60) == "first"
        assert grouped.get(timeout=60) == [0, 1, 2]


def test_a_task_that_nobody_took_is_still_in_rabbitmq_after_its_sender_left(rabbitmq_url, folder):
    with app.connection_for_write(rabbitmq_url) as connection:
        waiting = echo.apply_async(("later",), queue="patient", connection=connection)
    with Connection(rabbitmq_url) as connection:
        eventually(lambda: connection.default_channel.queue_declare("patient", passive=True).message_count == 1)
    process = Worker(folder, queue="patient", BROKER_URL=rabbitmq_url)
    try:
        assert waiting.get(timeout=60) == "later"
    finally:
        process.stop()
