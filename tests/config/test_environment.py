import subprocess
import sys
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
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
        ("BROKER_URL", "redis://:pa/ss@127.0.0.1:6379/0", "must be the address of one server"),
        ("BROKER_URL", "amqp://a:1//;amqp://b:1//", "must be the address of one server"),
        ("DATABASE_URL", "sqlite:///x", "must begin with postgres://"),
        ("WORKER_CONCURRENCY", "many", "integer"),
        ("DEADLETTERS_KEYS", "c2hvcnQ=", "number 1 is no key"),
        ("DEADLETTERS_RETENTION_DAYS", "replaying=3", "'replaying=3' is none of open=N"),
        ("DEADLETTERS_RETENTION_DAYS", "open=999999", "100000 days are the most"),
        ("DEADLETTERS_RETENTION_COUNT", "open", "'open' is none of open=N"),
        ("LOG_LEVEL", "loud", "'loud' is no level"),
        ("REPLAY_POLICIES", "{", "it is no JSON"),
        ("DEADLETTERS_REDACT_TASKS", "shop.pay=holder", "it is no JSON"),
    ],
)
def test_a_wrong_variable_stops_the_start_with_its_name(name, value, says, monkeypatch):
    monkeypatch.setenv(name, value)
    done = subprocess.run([sys.executable, "manage.py", "check"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert name in done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_a_level_may_be_written_small(monkeypatch):
    monkeypatch.setenv("LOG_LEVEL", "warning")
    done = subprocess.run([sys.executable, "manage.py", "check"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_folder_that_leads_upwards_is_told_without(monkeypatch):
    monkeypatch.setenv("VAR_DIR", "/tmp/a/../b")
    monkeypatch.delenv("STORAGE_URL")
    command = "from django.conf import settings; print(settings.STORAGE_URL)"
    done = subprocess.run(
        [sys.executable, "manage.py", "shell", "--no-imports", "-c", command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "file:///tmp/b/storage\n", done.stderr


def test_a_broken_environment_file_stops_the_start_with_its_name(tmp_path, monkeypatch):
    (tmp_path / "environment.json").write_text("{not json")
    monkeypatch.setenv("VAR_DIR", str(tmp_path))
    done = subprocess.run([sys.executable, "manage.py", "check"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert f"{tmp_path}/environment.json is no longer JSON" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("key", ["", "  "])
def test_the_web_server_does_not_start_without_a_key(monkeypatch, key):
    monkeypatch.setenv("SECRET_KEY", key)
    done = subprocess.run(
        [sys.executable, "-m", "gunicorn", "-c", "python:config.gunicorn", "config.wsgi"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "SECRET_KEY is not set" in done.stderr


def test_the_environment_of_a_developer_stays_outside(settings):
    assert not (settings.VAR_DIR / "environment.json").exists()
    assert settings.VAR_DIR != ROOT / "var"


def test_the_environment_table_in_the_readme_is_up_to_date(tmp_path):
    call_command("environment", check=ROOT / "README.md")
    old = tmp_path / "README.md"
    old.write_text("<!-- environment: begin -->\n| old |\n<!-- environment: end -->\n")
    with pytest.raises(CommandError, match="not up to date"):
        call_command("environment", check=old)
    call_command("environment", write=old)
    call_command("environment", check=old)
