"""Fixtures of every test: a worker, the people, a quick browser client."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from django.contrib.auth import get_user_model
from django.db import OperationalError, connection
from django.db.backends.base.operations import BaseDatabaseOperations
from django.utils import translation
from hypothesis import HealthCheck, settings
from psycopg.errors import DeadlockDetected

from config.celery import app
from deadletters.capture.announce import flush
from deadletters.replay.cluster import inspection
from tests import tasks  # noqa: F401  (the tests' process knows the same tasks as the tests' workers)
from tests.checked import registered  # noqa: F401  (a fixture)
from tests.processes import Worker
from tests.rabbitmq import on_rabbitmq, rabbitmq, rabbitmq_url  # noqa: F401  (fixtures)
from tests.web import Web

# Here, for pytest looks for the profile that `--hypothesis-profile` names before it imports a test. No example is timed.
_COMMON = {
    "deadline": None,
    "database": None,
    "suppress_health_check": list(HealthCheck),
    "report_multiple_bugs": False,
}
settings.register_profile("usual", **_COMMON)
settings.register_profile("long", max_examples=200, **_COMMON)
settings.load_profile("usual")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take minutes come first (bin/test keeps this order): what is quick fills up the end."""
    items.sort(key=lambda item: (item.get_closest_marker("chaos") is None, item.get_closest_marker("worker") is None))


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup, django_db_blocker) -> Iterator[None]:
    """Rows are numbered from 10,000 on, so that a page that writes an id as 10,000 is found out.

    At the end nobody else uses the database, so that it can be dropped: who tells listeners of letters keeps a connection for seconds.
    """
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        cursor.execute("SELECT setval(format('%I.%I', schemaname, sequencename)::regclass, 10000) FROM pg_sequences")
    yield
    flush(timeout=10)
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


@pytest.fixture(autouse=True)
def each_test_begins_in_english() -> Iterator[None]:
    """A request in Japanese leaves its language to the thread, which is that of the next test, too."""
    yield
    translation.deactivate()


@pytest.fixture(scope="session", autouse=True)
def flush_in_spite_of_workers() -> Iterator[None]:
    """Emptying all tables may deadlock with a transaction of a worker; where PostgreSQL ends the emptying, it is done again."""
    flush_once = BaseDatabaseOperations.execute_sql_flush

    def flush_tables(self: BaseDatabaseOperations, statements: list[str]) -> None:
        for _attempt in range(4):
            try:
                return flush_once(self, statements)
            except OperationalError as problem:
                if not isinstance(problem.__cause__, DeadlockDetected):
                    raise
        return flush_once(self, statements)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BaseDatabaseOperations, "execute_sql_flush", flush_tables)
        yield


@pytest.fixture(scope="module", autouse=True)
def workers_of_other_files() -> None:
    """What they said of their tasks and queues is forgotten: a replay would believe it for minutes."""
    inspection.forget()


@pytest.fixture(autouse=True)
def language_of_the_last_page() -> Iterator[None]:
    """Whoever read a page in Japanese leaves this thread in Japanese."""
    yield
    translation.deactivate()


@pytest.fixture(scope="session")
def worker(django_db_setup, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    """One real worker for all tests of this process; tests that kill theirs start their own."""
    with app.connection_for_write() as broker:
        # What tests before sent and nobody took would be the first deaths of this one.
        broker.default_channel.queue_declare("default", durable=True, auto_delete=False)
        broker.default_channel.queue_purge("default")
    process = Worker(tmp_path_factory.mktemp("worker"))
    yield process
    process.stop()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def admin_user(db):
    return get_user_model().objects.create_superuser("admin", "admin@localhost", "password")


@pytest.fixture
def web() -> Iterator[Web]:
    """A web server on loopback, programmed by the test."""
    with closing(Web()) as server:
        yield server
