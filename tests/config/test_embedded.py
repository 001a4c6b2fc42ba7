"""The servers out of wheels, when a crash left their notes behind."""

import os

import psutil
import pytest

from config.embedded import PostgreSQL, Redis, free_port


@pytest.fixture
def neighbour():
    """The Redis of this test session: a server of another folder."""
    from django.conf import settings

    folder = settings.VAR_DIR / "redis"
    return int((folder / "pid").read_text())


def test_a_number_that_now_is_another_server_is_not_taken_for_ours(neighbour, tmp_path):
    redis = Redis(tmp_path / "redis", port=free_port(), password="secret")
    redis.folder.mkdir()
    (redis.folder / "pid").write_text(str(neighbour))
    assert not redis.running()
    redis.stop()
    os.kill(neighbour, 0)
    redis.start()
    assert redis.running()
    redis.stop()
    assert not redis.running()


@pytest.mark.django_db
def test_postgresql_looks_as_closely(tmp_path):
    postgresql = PostgreSQL(tmp_path / "postgresql", port=free_port(), password="secret")
    postgresql.data.mkdir(parents=True)
    (postgresql.data / "postmaster.pid").write_text(f"{_postmaster()}\n{postgresql.data}\n")
    assert not postgresql.running()


def _postmaster() -> int:
    """That of this test session."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return psutil.Process(cursor.fetchone()[0]).ppid()
