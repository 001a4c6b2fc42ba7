import subprocess
import sys
from pathlib import Path

import pytest
from django.db import connection

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.mark.django_db
def test_tests_run_on_a_real_postgresql():
    with connection.cursor() as cursor:
        cursor.execute("SHOW server_version")
        assert int(cursor.fetchone()[0].split(".")[0]) >= 15


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("TIME_ZONE", "Mars/Olympus", "is no time zone"),
        ("BROKER_URL", "kafka://x", "must begin with redis://"),
        ("DATABASE_URL", "sqlite:///x", "only PostgreSQL"),
        ("WORKER_CONCURRENCY", "many", "integer"),
    ],
)
def test_a_wrong_variable_stops_the_start_with_its_name(name, value, says, monkeypatch):
    monkeypatch.setenv(name, value)
    done = subprocess.run([sys.executable, "manage.py", "check"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert name in done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr
