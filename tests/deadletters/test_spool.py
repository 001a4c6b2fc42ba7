"""A letter that PostgreSQL does not take waits in the spool and becomes a row once, whatever happens in between."""

import json
import resource
import threading
import time
import uuid
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta

import pytest
import redis
from django.conf import settings as django_settings
from django.db import OperationalError, connection, transaction

from config.celery import app
from deadletters import workers
from deadletters.capture import breaker, drainer, heartbeats, keep, ledger, spooled
from deadletters.capture.announce import flush
from deadletters.capture.capture import Outcome, capture
from deadletters.capture.drain import Drained, drain
from deadletters.capture.request import DeadLetterRequest
from deadletters.capture.spool import SpoolError, spool
from deadletters.checks import spool_is_usable
from deadletters.envelope import COPY_HEADER
from deadletters.models import Cause, DeadLetter, Event, State
from deadletters.workers import EarlyStart
from tests import tasks
from tests.deadletters.test_capture import death
from tests.processes import Process, eventually, manage

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(params=["folder", "redis"])
def anywhere(request, settings, tmp_path):
    if request.param == "folder":
        settings.DEADLETTERS_SPOOL = str(tmp_path / "spool")
    else:
        settings.DEADLETTERS_SPOOL = django_settings.CELERY_BROKER_URL
    yield
    with redis.Redis.from_url(django_settings.CELERY_BROKER_URL) as client:
        client.delete("dead_letter_spool", "dead_letter_spool.set-aside")


@pytest.fixture
def folder(settings, tmp_path):
    settings.DEADLETTERS_SPOOL = str(tmp_path / "spool")
    return tmp_path / "spool"


@pytest.fixture(autouse=True)
def _closed():
    yield
    breaker.close()
    flush(timeout=10)


def spool_deaths(*deaths):
    for one in deaths:
        breaker.trip()
        assert capture(one) == Outcome.SPOOLED
    breaker.close()


def many(number):
    return [death(task_id=f"t-{index}", exception_message=f"no {index}") for index in range(number)]


def damage(bad_line):
    """Put a line that is no letter at the end, as a crash would."""
    if django_settings.DEADLETTERS_SPOOL.startswith("redis"):
        with redis.Redis.from_url(django_settings.DEADLETTERS_SPOOL) as client:
            client.rpush("dead_letter_spool", bad_line)
    else:
        (path,) = (p for p in spool().folder.iterdir() if p.suffix == ".jsonl")
        with path.open("ab") as file:
            file.write(bad_line)


def test_spooled_letters_are_stored_once_as_they_were(anywhere):
    one = death(exception_message="a\x00b", traceback="line\n" * 3)
    spool_deaths(one, death(task_id="t-2"))
    assert not DeadLetter.objects.exists()
    assert spool().waiting()
    assert drain() == Drained(stored=2)
    assert not spool().waiting()
    spooled = DeadLetter.objects.get(task_id="t-1")
    DeadLetter.objects.all().delete()
    capture(one)
    stored = DeadLetter.objects.get(task_id="t-1")
    for field in DeadLetter._meta.concrete_fields:
        if field.name != "id":
            assert getattr(spooled, field.name) == getattr(stored, field.name), field.name
    assert drain() == Drained()


def test_a_death_that_is_stored_already_is_not_stored_again(anywhere):
    one = death()
    capture(one)
    spool_deaths(one, one)
    assert drain() == Drained(duplicates=2)
    assert DeadLetter.objects.get().deaths == Event.objects.count() == 1


def test_a_replay_that_died_while_postgresql_was_away_opens_its_letter_again(anywhere):
    capture(death())
    DeadLetter.objects.update(state=State.REPLAYING, replay_number=1)
    spool_deaths(death(replay=1, exception_message="again"))
    assert drain() == Drained(stored=1)
    letter = DeadLetter.objects.get()
    assert (letter.state, letter.deaths, letter.exception_message) == (State.OPEN, 2, "again")


def test_a_torn_last_line_is_set_aside_and_nothing_else_is_lost(anywhere):
    spool_deaths(death())
    damage(b'{"row": {"task_id": "torn')
    spool_deaths(death(task_id="t-2"))
    assert drain() == Drained(stored=2, set_aside=1)
    assert spool().aside() == 1
    assert [warning.id for warning in spool_is_usable()] == ["deadletters.W011"]
    assert drain() == Drained()
    assert not spool().waiting()


def test_a_letter_that_postgresql_refuses_is_set_aside_and_the_others_are_stored(anywhere):
    spool_deaths(death())
    breaker.trip()
    capture(death(task_id="t-2"))
    refused = death(task_id="t-3", received_at="never")
    capture(refused)
    breaker.close()
    assert drain() == Drained(stored=2, set_aside=1)
    assert spool().aside() == 1


def test_a_full_disk_costs_only_the_letter_that_does_not_fit(folder):
    spool_deaths(*many(3))
    (path,) = folder.glob("*.jsonl")
    whole = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 100, hard))
    try:
        breaker.trip()
        with pytest.raises(SpoolError, match="not usable"):
            capture(death(task_id="t-4"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == whole
    assert drain() == Drained(stored=3)


def test_a_spool_that_cannot_be_written_is_said(folder):
    folder.write_text("a file where the folder should be")
    assert [warning.id for warning in spool_is_usable()] == ["deadletters.W010"]
    breaker.trip()
    with pytest.raises(SpoolError, match=str(folder)):
        capture(death())


@contextmanager
def locked(table):
    """The table is locked as a migration would; a statement of the test's connection ends after a while."""
    holds, release = threading.Event(), threading.Event()

    def hold():
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
            holds.set()
            release.wait(timeout=6)
        connection.close()

    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = '300ms'")
    holder = threading.Thread(target=hold)
    holder.start()
    assert holds.wait(timeout=10)
    try:
        yield
    finally:
        release.set()
        holder.join()
        connection.close()


def test_a_locked_table_is_waited_for_once(folder):
    with locked("deadletters_deadletter"):
        # A second try would be on a new connection, whose statements nobody ends here: it would have its lock at last.
        assert capture(death()) == Outcome.SPOOLED
        assert breaker.is_away()
    assert drain() == Drained(stored=1)


def test_while_what_waits_cannot_be_stored_nobody_asks_again(anywhere):
    with locked("deadletters_deadletter"):
        assert capture(death()) == Outcome.SPOOLED
        with connection.cursor() as cursor:
            cursor.execute("SET statement_timeout = '300ms'")
        with pytest.raises(OperationalError):
            drainer.look()
        assert breaker.is_away()
    drainer.look()
    assert not breaker.is_away()
    assert DeadLetter.objects.count() == 1


def test_an_empty_spool_and_a_connection_say_that_postgresql_is_back(folder):
    breaker.trip()
    drainer.look()
    assert not breaker.is_away()


def test_two_drains_at_once_store_each_letter_once(anywhere):
    spool_deaths(*many(300))
    results, barrier = [], threading.Barrier(2)

    def run():
        barrier.wait()
        results.append(drain())
        connection.close()

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(result.stored for result in results) == 300
    assert DeadLetter.objects.count() == Event.objects.count() == 300
    assert not spool().waiting()


def test_a_drain_that_is_killed_neither_loses_nor_doubles_a_letter(folder, tmp_path):
    spool_deaths(*many(1_200))
    for number in (1, 2):
        process = Process("manage.py", "drain_spool", log=tmp_path / f"drain {number}", DEADLETTERS_SPOOL=str(folder))
        before = DeadLetter.objects.count()
        eventually(lambda before=before: DeadLetter.objects.count() > before + 200, what="some letters are stored")
        process.process.kill()
        process.process.wait()
    assert DeadLetter.objects.count() < 1_200
    done = manage("drain_spool", "--json", DEADLETTERS_SPOOL=str(folder))
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["stored"] + told["duplicates"] == 1_200
    assert told["duplicates"] > 0
    assert DeadLetter.objects.count() == Event.objects.count() == 1_200
    assert set(DeadLetter.objects.values_list("deaths", flat=True)) == {1}
    assert not list(folder.iterdir())


def test_the_command_says_what_is_no_letter(folder):
    spool_deaths(death())
    damage(b"rubbish")
    done = manage("drain_spool", DEADLETTERS_SPOOL=str(folder))
    assert done.returncode == 1
    assert "Stored 1 letters" in done.stdout
    assert ".set-aside" in done.stdout


def test_the_command_says_that_postgresql_is_away(folder):
    spool_deaths(death())
    done = manage("drain_spool", DEADLETTERS_SPOOL=str(folder), DATABASE_URL="postgres://nobody:x@127.0.0.1:1/nowhere")
    assert done.returncode == 2
    assert "PostgreSQL does not answer" in done.stderr
    assert drain() == Drained(stored=1)


@pytest.mark.parametrize(("cause", "status"), [(Cause.EXCEPTION, "FAILURE"), (Cause.EXPIRED, "REVOKED")])
def test_the_failure_of_a_spooled_letter_is_told_when_it_is_stored(folder, cause, status):
    spool_deaths(death(cause=cause))
    drain()
    assert app.AsyncResult("t-1").state == status


def test_a_letter_without_its_payload_does_not_hold_up_those_behind_it(folder, settings, monkeypatch):
    monkeypatch.setattr(keep, "_seen", {})
    settings.DEADLETTERS_KEEP_PAYLOADS_PER_ERROR = 1
    spool_deaths(*many(3))
    assert drain().stored == 3
    assert DeadLetter.objects.filter(payload_kept=False).count() == 2
    assert {app.AsyncResult(letter.task_id).state for letter in DeadLetter.objects.all()} == {"FAILURE"}
    assert not spool().waiting()


def test_a_result_that_is_known_is_left_alone(folder):
    app.backend.store_result("t-1", 42, "SUCCESS")
    spool_deaths(death())
    drain()
    assert app.AsyncResult("t-1").get() == 42


def test_a_spool_that_is_empty_is_nothing_to_speak_of(folder):
    assert spool_is_usable() == []


def test_the_end_of_an_early_start_does_not_overtake_it(anywhere):
    worker = uuid.uuid4()
    spool().put(spooled.start(1, worker, "w@host", b"{}"))
    slow = spool().batches()
    lines = next(slow)
    spool().put(spooled.end(1))
    drain()  # another worker of this host
    spooled.store(lines)
    slow.close()
    drain()
    assert not EarlyStart.objects.exists()
    assert not spool().waiting()


def test_a_start_that_postgresql_took_unheard_ends_like_any_other(anywhere):
    worker = uuid.uuid4()
    EarlyStart.objects.create(pk=1, worker_id=worker, record=b"{}")
    spool().put(spooled.start(1, worker, "w@host", b"{}"))
    spool().put(spooled.end(1))
    drain()
    assert not EarlyStart.objects.exists()


def test_two_copies_of_one_early_replay_are_two_starts(folder):
    worker, first, second = uuid.uuid4(), death(replay=1, worker="w@host"), death(replay=1, worker="w@host")
    first.envelope.headers[COPY_HEADER], second.envelope.headers[COPY_HEADER] = "a", "b"
    kept, ended = ledger.open_entry(worker, first), ledger.open_entry(worker, second)
    ledger.close_entry(ended)
    assert EarlyStart.objects.get().pk == kept
    assert not spool().waiting()
    ledger.close_of("t-1", first.envelope.headers, 0, "w@host")
    assert not EarlyStart.objects.exists()


@pytest.mark.parametrize("is_away", [False, True], ids=["to PostgreSQL", "to the spool"])
def test_a_task_that_a_killed_worker_had_begun_is_its_successors(folder, is_away):
    dead, successor = uuid.uuid4(), uuid.uuid4()
    ledger.open_entry(dead, death(worker="w@host"))
    workers.beat(dead, "w@host")
    workers.beat(successor, "w@host")
    if is_away:
        breaker.trip()
    ledger.open_entry(successor, death(worker="w@host"))
    breaker.close()
    drain()
    assert EarlyStart.objects.get().worker_id == successor
    spool().put(spooled.start(EarlyStart.objects.get().pk, dead, "w@host", b"{}"))  # told late
    drain()
    assert EarlyStart.objects.get().worker_id == successor


def test_an_early_start_is_noted_as_of_when_it_began(folder, monkeypatch):
    monkeypatch.setattr(heartbeats, "_heartbeat", heartbeats.Heartbeat(app, "w@host"))
    tasks.echo.apply_async([1], queue="spool-test")
    with app.connection_for_read() as broker, closing(broker.SimpleQueue("spool-test")) as queue:
        message = queue.get(timeout=10)
        early = app.tasks["tests.hold.early"]
        request = DeadLetterRequest(message, app=app, task=early, hostname="w@host", on_ack=lambda *_: message.ack())
        now = datetime.now(UTC)
        request.on_accepted(1, time.monotonic() - 60)  # its process began a minute ago, and this loop was busy
    assert ledger.unpack(bytes(EarlyStart.objects.get().record)).started_at < now - timedelta(seconds=59)
