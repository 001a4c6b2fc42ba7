"""PostgreSQL is stopped under a busy worker and started again: each death is one letter, and the worker never ends."""

import os
import re
import signal
from contextlib import contextmanager

import psutil
import psycopg
import pytest
from celery import chain, current_app

from config.embedded import PostgreSQL, free_port, new_password
from deadletters.capture.spool import FileSpool
from tests import tasks
from tests.processes import Worker, eventually, manage

pytestmark = pytest.mark.worker

QUEUE = "postgresql-away"


class Database(PostgreSQL):
    """A PostgreSQL of this module alone, with our tables."""

    @contextmanager
    def hung(self):
        """It takes connections and statements, and says nothing."""
        postmaster = psutil.Process(int((self.data / "postmaster.pid").read_text().split()[0]))
        processes = [postmaster, *postmaster.children()]
        for process in processes:
            process.suspend()
        try:
            yield
        finally:
            for process in processes:
                process.resume()

    @contextmanager
    def statements(self):
        """What the worker's processes ask meanwhile: (server process, first line)."""
        before, heard = self.log.stat().st_size, []
        self.ask_to_log("all")
        try:
            yield heard
        finally:
            self.ask_to_log("none")
        text = self.log.read_bytes()[before:].decode(errors="replace")
        heard += re.findall(r"^(\d+) redeliver \S+  (?:statement|execute \S+): \s*(\w+ \S+.*)", text, re.MULTILINE)

    def ask_to_log(self, what):
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET log_line_prefix = '%p %a '")
            connection.execute(f"ALTER SYSTEM SET log_statement = '{what}'")
            connection.execute("SELECT pg_reload_conf()")

    def ask(self, query, *parameters):
        with psycopg.connect(self.url, autocommit=True) as connection:
            return connection.execute(query, parameters).fetchall()

    def letters(self):
        return self.ask(
            "SELECT task_id, cause, exception_type, deaths FROM deadletters_deadletter ORDER BY died_at, task_id"
        )

    def status(self, task_id):
        return dict(self.ask("SELECT task_id, status FROM django_celery_results_taskresult")).get(task_id)


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    folder = tmp_path_factory.mktemp("servers")
    for above in (folder, *folder.parents[:2]):
        above.chmod(0o711)  # as root PostgreSQL runs as another user
    server = Database(folder / "postgresql", port=free_port(), password=new_password())
    server.start()
    try:
        migrated = manage("migrate", "--verbosity", "0", DATABASE_URL=server.url)
        assert migrated.returncode == 0, migrated.stderr
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def spool(tmp_path_factory):
    return tmp_path_factory.mktemp("host") / "spool"


@pytest.fixture(scope="module")
def away_worker(database, spool, tmp_path_factory):
    worker = Worker(
        tmp_path_factory.mktemp("worker"), queue=QUEUE, DATABASE_URL=database.url, DEADLETTERS_SPOOL=str(spool)
    )
    yield worker
    worker.stop()


@pytest.fixture
def empty(database):
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute("TRUNCATE deadletters_deadletter, django_celery_results_taskresult CASCADE")


def send(task, *args, **options):
    return task.apply_async(args, queue=QUEUE, **options).id


def test_a_success_costs_the_statement_of_its_result(database, away_worker, empty):
    """Of ours, that is: nothing of dead letters asks PostgreSQL for its sake."""
    done = "SELECT count(*) FROM django_celery_results_taskresult WHERE status = 'SUCCESS'"
    for number in range(20):  # prepared by then, in both processes
        send(tasks.echo, number)
    eventually(lambda: database.ask(done) == [(20,)])
    with database.statements() as statements:
        for number in range(10):
            send(tasks.echo, number)
        eventually(lambda: database.ask(done) == [(30,)])
    ran = {process for process, statement in statements if "django_celery_results" in statement}
    assert sum(process in ran for process, _ in statements) == 10
    # Signs of life come from a thread of the main process, whatever its tasks do.
    assert {statement for _, statement in statements if re.search("deadletters_(?!worker)", statement)} == set()


def test_deaths_while_postgresql_is_away_are_one_letter_each_without_a_restart(database, away_worker, spool, empty):
    early = current_app.tasks["tests.die.early"]
    before = [send(tasks.die, "before")]
    eventually(lambda: len(database.letters()) == 1)
    database.stop()
    during = [send(task, f"during {number}") for number in range(10) for task in (tasks.die, early)]
    during += [send(current_app.tasks["tests.vanish"]), send(tasks.reject)]
    during += [
        current_app.send_task("tests.nobody_knows", queue=QUEUE).id,
        send(tasks.echo, "late", expires=-1),
    ]
    eventually(lambda: spooled(spool) >= len(during), what="every death is in the spool")
    assert away_worker.alive
    assert not list(spool.glob("*.draining"))  # nobody takes it up in vain
    database.start()
    eventually(lambda: len(database.letters()) >= len(during) + 1, what="every death is a letter")
    assert sorted(task_id for task_id, *_ in database.letters()) == sorted(before + during)
    assert {deaths for *_, deaths in database.letters()} == {1}
    # The task's own exceptions: that PostgreSQL was away is not what they died of.
    assert {exception for _, _, exception, _ in database.letters()} == {
        "ValueError", "WorkerLostError", "Reject", "NotRegistered", "TaskRevokedError",
    }  # fmt: skip
    eventually(lambda: not list(spool.glob("*.jsonl")) and not list(spool.glob("*.draining")))
    for task_id in during[:-1]:
        eventually(lambda task_id=task_id: database.status(task_id) == "FAILURE", what=f"the result of {task_id}")
    assert database.status(during[-1]) == "REVOKED"
    assert away_worker.alive


def spooled(folder):
    return FileSpool(folder).count()


def test_what_waits_behind_a_spooled_death_hears_of_it(database, away_worker, spool, empty):
    database.stop()
    chained = chain(tasks.die.s("first").set(queue=QUEUE), tasks.echo.s().set(queue=QUEUE)).apply_async()
    eventually(lambda: spooled(spool) == 1)
    database.start()
    eventually(lambda: database.status(chained.id) == "FAILURE", what="the chain's end knows")
    assert [row[2] for row in database.letters()] == ["ValueError"]


def test_a_lock_on_the_letters_does_not_hold_up_the_worker(database, away_worker, spool, empty):
    with psycopg.connect(database.url) as migration:
        migration.execute("LOCK TABLE deadletters_deadletter IN ACCESS EXCLUSIVE MODE")
        dead = [send(tasks.die, number) for number in range(4)]
        eventually(lambda: spooled(spool) == len(dead), what="the letters are in the spool")
    eventually(lambda: len(database.letters()) == len(dead))
    assert sorted(dead) == sorted(task_id for task_id, *_ in database.letters())


def test_early_acknowledged_tasks_that_begin_or_end_meanwhile_outlive_their_worker(database, spool, empty, tmp_path):
    queue, early = "early-away", current_app.tasks["tests.hold.early"]
    settings = {"DATABASE_URL": database.url, "DEADLETTERS_SPOOL": str(spool), "WORKER_LOST_AFTER": "6"}
    log, never, release = tmp_path / "log", tmp_path / "never", tmp_path / "release"
    lost, left = Worker(tmp_path, queue=queue, concurrency=3, **settings), None
    try:
        # No result will tell that this one and the third have ended.
        early.apply_async([str(log), str(release)], queue=queue, ignore_result=True)
        eventually(lambda: database.ask("SELECT count(*) FROM deadletters_earlystart") == [(1,)])
        database.stop()
        dead = early.apply_async([str(log), str(never)], queue=queue).id
        early.apply_async([str(log), str(release)], queue=queue, ignore_result=True)
        eventually(lambda: len(log.read_text().splitlines()) == 3, what="all have begun")
        eventually(lambda: len(noted(spool, "early_start")) == 2, what="both are noted")
        release.touch()
        eventually(lambda: len(noted(spool, "early_end")) == 2, what="two have ended")
        os.killpg(lost.process.pid, signal.SIGKILL)
        database.start()
        left = Worker(tmp_path, queue=queue, **settings)
        eventually(database.letters, what="a letter")
        eventually(lambda: database.ask("SELECT count(*) FROM deadletters_earlystart") == [(0,)])
        assert [row[:2] for row in database.letters()] == [(dead, "worker_lost")]
        eventually(lambda: database.status(dead) == "FAILURE")
    finally:
        database.start()
        for worker in filter(None, (lost, left)):
            worker.stop(signal.SIGKILL)


def noted(spool, mark):
    return {key for path in spool.glob("*") for key in re.findall(rf'"{mark}": (\d+)', path.read_text())}


def test_a_hung_postgresql_holds_up_neither_the_worker_nor_its_signs_of_life(database, away_worker, spool, empty):
    # Its event loop has a connection.
    before = current_app.send_task("tests.nobody_knows", queue=QUEUE).id
    eventually(lambda: len(database.letters()) == 1)
    unheard = away_worker.output.count("worker.heartbeat_not_stored")
    with database.hung(), current_app.connection_for_read() as broker:
        dead = [current_app.send_task("tests.nobody_knows", queue=QUEUE).id for _ in range(20)]
        eventually(lambda: spooled(spool) == len(dead), what="every death is in the spool")
        assert broker.default_channel.client.llen(QUEUE) == 0
        # The thread that beats goes on to tell Redis.
        eventually(lambda: away_worker.output.count("worker.heartbeat_not_stored") > unheard)
    eventually(lambda: len(database.letters()) == len(dead) + 1, what="every death is a letter")
    assert sorted([before, *dead]) == sorted(task_id for task_id, *_ in database.letters())
    for task_id in dead:
        eventually(lambda task_id=task_id: database.status(task_id) == "FAILURE")
    assert away_worker.alive
