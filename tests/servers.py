"""The servers of a test session: PostgreSQL and Redis out of wheels, on free ports, in a temporary folder.

A pytest plugin (named in pyproject.toml) rather than a conftest: settings read the environment when Django is set up, which is
earlier than any fixture. One PostgreSQL serves all xdist workers (each makes its own database); each has a Redis of its own.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.embedded import PostgreSQL, Redis, free_port, new_password

# Durability costs a test run half its time, and no test cuts the power of the machine.
FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "max_connections": "200"}


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Iterator[None]:
    """Start the servers; as a wrapper it comes before pytest-django, which imports the settings in the same hook."""
    _start(early_config)
    return (yield)


def _start(early_config: pytest.Config) -> None:
    folder = Path(tempfile.mkdtemp(prefix="redeliver-tests-"))
    early_config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
    # Nothing of the developer's own platform gets in: not var/environment.json, which this module looks for when it is imported,
    # and not the shell's variables.
    os.environ["VAR_DIR"] = str(folder)
    from config.environment import Environment

    for name in Environment.model_fields:
        os.environ.pop(name, None)
    environment = {
        "VAR_DIR": str(folder), "SECRET_KEY": new_password(), "DEBUG": "false", "HTTPS": "false", "SAMPLES": "true", "FETCH_ALLOW_PRIVATE": "true",
        "LOG_FORMAT": "console", "STORAGE_URL": f"file://{folder}/storage", "UPLOAD_URL": f"file://{folder}/uploads",
        "RETRY_BACKOFF_MAX": "1", "UPLOAD_ALLOW": "file:///,s3://", "ALLOWED_HOSTS": "localhost,127.0.0.1,testserver",
    }  # fmt: skip
    if "PYTEST_XDIST_WORKER" not in os.environ and "REDELIVER_TEST_DATABASE_URL" not in os.environ:
        folder.chmod(0o711)
        postgresql = PostgreSQL(folder / "postgresql", port=free_port(), password=new_password(), settings=FAST)
        postgresql.start()
        early_config.add_cleanup(postgresql.stop)
        # xdist's workers inherit this and use the same server.
        os.environ["REDELIVER_TEST_DATABASE_URL"] = postgresql.url
        early_config.add_cleanup(lambda: os.environ.pop("REDELIVER_TEST_DATABASE_URL", None))
    environment["DATABASE_URL"] = os.environ["REDELIVER_TEST_DATABASE_URL"]
    redis = Redis(folder / "redis", port=free_port(), password=new_password())
    redis.start()
    early_config.add_cleanup(redis.stop)
    environment["BROKER_URL"] = redis.url
    os.environ.update(environment)
