"""Results in PostgreSQL: stock django-celery-results reads them, and a restart of PostgreSQL loses and mixes none."""

import json
import shutil
import time

import psycopg
import pytest
from celery import chord
from django_celery_results.backends.database import DatabaseBackend
from django_celery_results.models import TaskResult

from config.celery import app
from config.embedded import PostgreSQL, free_port, new_password
from tests.processes import Worker, eventually, manage
from tests.tasks import add, collect, echo, sleep

pytestmark = [pytest.mark.worker, pytest.mark.django_db(transaction=True)]


def test_the_stock_backend_reads_what_ours_wrote(worker):
    result = add.apply_async([2, 3])
    eventually(lambda: app.backend.get_state(result.id) == "SUCCESS")
    meta = DatabaseBackend(app).get_task_meta(result.id)
    assert (meta["status"], meta["result"], meta["task_name"]) == ("SUCCESS", 5, "tests.add")
    row = TaskResult.objects.get(task_id=result.id)
    assert json.loads(row.task_args) == "[2, 3]"
    assert None not in {row.date_created, row.date_started, row.date_done}
    assert row.worker == worker.name


def test_only_a_task_of_a_workflow_leaves_a_row_when_it_starts(worker):
    alone, part = sleep.delay(2), chord([sleep.si(2)])(collect.s()).parent.results[0]
    eventually(lambda: app.backend.get_state(part.id) == "STARTED")
    eventually(lambda: app.backend.get_state(alone.id) == "SUCCESS")
    assert TaskResult.objects.get(task_id=alone.id).date_started is not None


@pytest.fixture
def other_database(tmp_path):
    """A PostgreSQL that may be stopped: the others belong to all tests."""
    import tempfile
    from pathlib import Path

    folder = Path(tempfile.mkdtemp(prefix="redeliver-tests-"))
    folder.chmod(0o711)
    server = PostgreSQL(folder / "postgresql", port=free_port(), password=new_password())
    server.start()
    assert manage("migrate", "-v", "0", DATABASE_URL=server.url).returncode == 0
    yield server
    server.stop()
    shutil.rmtree(folder, ignore_errors=True)


def test_a_restart_of_postgresql_loses_and_mixes_no_result(other_database, tmp_path):
    worker = Worker(tmp_path, queue="restarted", concurrency=2, DATABASE_URL=other_database.url)
    try:
        # Two end while PostgreSQL is away, for longer than a few quick tries last; the others begin before, between and after.
        slow = {sleep.apply_async([3], queue="restarted").id: 3 for _ in range(2)}
        eventually(lambda: worker.output.count("tests.sleep") >= 2)
        other_database.stop()
        quick = {echo.apply_async([number], queue="restarted").id: number for number in range(40)}
        time.sleep(12)
        other_database.start()
        wanted = {**slow, **quick}
        found = eventually(lambda: (rows := _successes(other_database)) and len(rows) == len(wanted) and rows)
        assert found == wanted
        assert worker.alive
    finally:
        worker.stop()


def test_a_success_in_a_pool_of_threads_waits_for_postgresql_too(other_database, tmp_path):
    worker = Worker(tmp_path, "--pool", "threads", queue="threads", DATABASE_URL=other_database.url)
    try:
        slow = {sleep.apply_async([2], queue="threads").id: 2 for _ in range(2)}
        eventually(lambda: worker.output.count("tests.sleep") >= 2)
        other_database.stop()
        time.sleep(5)
        other_database.start()
        assert eventually(lambda: (rows := _successes(other_database)) and len(rows) == 2 and rows) == slow
    finally:
        worker.stop()


def _successes(server):
    with psycopg.connect(server.url) as connection:
        rows = connection.execute(
            "SELECT task_id, result FROM django_celery_results_taskresult WHERE status = 'SUCCESS'"
        )
        return {task_id: json.loads(result) for task_id, result in rows}
