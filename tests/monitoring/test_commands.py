import json
import signal
import uuid
from datetime import timedelta

import pytest
from django.core.checks import run_checks
from django.db import connection
from django.utils import timezone
from django_celery_beat.models import IntervalSchedule, PeriodicTask
from django_celery_results.models import TaskResult

from deadletters.models import State
from tests.processes import Process, manage

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def old(letter):
    died = timezone.now() - timedelta(days=100)
    letter(state=State.RESOLVED, died_at=died)
    kept = letter(died_at=died)
    for task_id in (kept.task_id, str(uuid.uuid4())):
        TaskResult.objects.create(task_id=task_id, status="FAILURE")
    TaskResult.objects.update(date_done=died)


def test_prune_tells_first_and_then_deletes(old):
    expected = {
        "dead_letters": 1,
        "open_dead_letters": 0,
        "errors": 0,
        "runs": 0,
        "chords": 0,
        "results": 1,
        "files": 0,
        "occurrences": 0,
        "acts": 0,
        "older_than_days": 90,
    }
    dry = manage("prune", "--dry-run", "--json")
    assert json.loads(dry.stdout) == {**expected, "dry_run": True}
    assert json.loads(manage("prune", "--json").stdout) == {**expected, "dry_run": False}
    again = manage("prune")
    assert again.returncode == 0
    assert again.stdout.startswith("Deleted 0 dead letters, 0 errors, 0 runs")
    assert TaskResult.objects.count() == 1


@pytest.mark.parametrize("days", ["0", "-1", "many", "1.5", "999999999999"])
def test_prune_refuses_what_is_no_number_of_days(days):
    done = manage("prune", "--older-than-days", days)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_status_prints_the_figures_and_says_what_is_wrong(letter):
    letter()
    every, ran = IntervalSchedule.objects.create(every=10, period="minutes"), timezone.now() - timedelta(hours=1)
    PeriodicTask.objects.create(name="patient", task="tests.echo", interval=every, last_run_at=ran)
    done = manage("status", "--json", BROKER_URL="redis://127.0.0.1:1/0")
    figures = json.loads(done.stdout)
    assert done.returncode == 1
    assert figures["open"] == 1
    assert figures["workers"] is None
    assert "broker does not answer" in figures["troubles"][0]
    done = manage("status", BROKER_URL="redis://127.0.0.1:1/0")
    assert "Open letters" in done.stdout
    assert 3000 < figures["late_schedules"]["patient"] < 3600
    assert "50 m  late  patient" in done.stdout


def test_a_deployment_that_tells_nobody_is_warned_of(settings):
    settings.ADMINS, settings.SLACK_WEBHOOK_URL = [], ""
    assert "monitoring.W001" in {found.id for found in run_checks(include_deployment_checks=True)}
    settings.SLACK_WEBHOOK_URL = "https://hooks.example.com/a"
    assert "monitoring.W001" not in {found.id for found in run_checks(include_deployment_checks=True)}
    assert "monitoring.W001" not in {found.id for found in run_checks()}


def test_status_looks_again_until_it_is_stopped(letter, tmp_path):
    connection.ensure_connection()
    began = timezone.now()
    watching = Process(
        "manage.py",
        "status",
        "--watch",
        "0.5",
        "--json",
        log=tmp_path / "watch.log",
        BROKER_URL="redis://127.0.0.1:1/0",
    )
    try:
        watching.wait_for('"open": 0')
        letter()
        watching.wait_for('"open": 1')
        # What a restart of PostgreSQL does to whoever watches.
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
                " AND application_name = 'redeliver' AND backend_start > %s",
                [began],
            )
            assert cursor.rowcount == 1
        letter()
        watching.wait_for('"open": 2')
    finally:
        assert watching.stop(signal.SIGINT) == 1
    looks = [json.loads(line) for line in watching.output.splitlines() if line.startswith("{")]
    assert [looks[0]["open"], looks[-1]["open"]] == [0, 2]


@pytest.mark.parametrize("seconds", ["0", "soon", "-3"])
def test_status_refuses_what_is_no_number_of_seconds(seconds):
    done = manage("status", f"--watch={seconds}")
    assert done.returncode == 2
    assert "is no number of seconds" in done.stderr
