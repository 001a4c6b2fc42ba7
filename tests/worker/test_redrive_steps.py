"""A redrive step by step: nobody consumes its queue, so that each outcome comes when the test says so."""

import json
import signal
import socket
import threading
from contextlib import closing
from datetime import timedelta

import pytest
from celery import current_app
from celery.exceptions import SoftTimeLimitExceeded
from django.db import connection, transaction
from django.utils import timezone

from deadletters.capture.outcome import ended, succeeded
from deadletters.envelope import Envelope
from deadletters.models import DeadLetter, Event, Redrive, RedriveItem, State
from deadletters.redrive import batch, drive, redrive
from deadletters.redrive.redrive import Conditions
from deadletters.redrive.tally import tally
from deadletters.redrives import new_driver
from deadletters.replay.cluster import inspection
from deadletters.replay.sweep import sweep
from deadletters.secrets.seal import new_key
from deadletters.selection import Selection
from tests.deadletters.letters import letter
from tests.processes import Process, eventually

pytestmark = [pytest.mark.worker, pytest.mark.django_db(transaction=True)]

QUEUE = "redrive-steps"
# Ctrl-C reaches it also where the tests run in the background.
INTERRUPTED = """
import signal; signal.signal(signal.SIGINT, signal.default_int_handler)
from django.core.management import execute_from_command_line
execute_from_command_line(["manage.py", "replay_dead_letters", "--all", "--wait"])
"""
ALONE = b', {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]'


@pytest.fixture(autouse=True)
def queue():
    with current_app.connection_for_write() as broker:
        channel = broker.default_channel
        channel.queue_declare(QUEUE, durable=True, auto_delete=False)
        channel.queue_purge(QUEUE)
        yield
        channel.queue_delete(QUEUE)


@pytest.fixture(autouse=True)
def no_answers():
    """No worker of another test is remembered."""
    inspection.forget()
    yield
    inspection.forget()


def buried(count, **fields):
    return [letter(number, **{"task_name": "tests.anything", "queue": QUEUE, **fields}) for number in range(count)]


@pytest.fixture
def driver_of():
    """The driver that a redrive names."""
    drivers = []

    def made(one):
        one.refresh_from_db()
        drivers.append(drive.driver_of(one))
        return drivers[-1]

    yield made
    for driver in drivers:
        driver.publisher.close()


def died(dead):
    """The replay of a letter has died, as its capture notes it."""
    dead.refresh_from_db()
    DeadLetter.objects.filter(pk=dead.pk).update(state=State.OPEN, died_at=timezone.now())
    Event.objects.create(dead_letter=dead, kind=Event.Kind.DIED, at=timezone.now(), replay_number=dead.replay_number)


def elsewhere(act):
    """Do it in another thread, over a connection of its own; what it raised, if it did."""
    raised = []

    def run():
        try:
            act()
        except Exception as problem:
            raised.append(problem)
        finally:
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return raised


def test_a_canary_whose_letters_were_not_sent_after_all_is_no_evidence(driver_of):
    dead = buried(6)
    one = redrive.start(Selection(), by="ana", conditions=Conditions(canary=2))
    driver = driver_of(one)
    assert driver.drive(5) == 1
    for first in dead[:2]:
        assert ended(first.task_id, 1, "its replay was revoked", resolved=False)
    assert driver.drive(5) == 1
    one.refresh_from_db()
    assert (one.state, one.sent, one.skipped) == (Redrive.State.CANARY, 2, 2)
    assert DeadLetter.objects.filter(state=State.REPLAYING).count() == 2


def test_a_death_that_a_page_counts_while_the_driver_looks_stops_the_canary(driver_of):
    dead = buried(4)
    one = redrive.start(Selection(), by="ana", conditions=Conditions(canary=1))
    driver = driver_of(one)
    assert driver.drive(5) == 1

    def a_page_looks(execute, sql, params, many, context):
        """Just before the driver asks how many are on their way."""
        if "COUNT(" in sql and "redriveitem" in sql and not Event.objects.filter(kind=Event.Kind.DIED, replay_number=1):
            died(dead[0])
            assert elsewhere(lambda: tally(Redrive.objects.get())) == []
        return execute(sql, params, many, context)

    with connection.execute_wrapper(a_page_looks):
        driver.step()
    assert driver.drive(5) is None
    one.refresh_from_db()
    assert (one.state, one.sent, one.died) == (Redrive.State.STOPPED, 1, 1)


def test_a_canary_that_was_stopped_by_the_broker_is_one_still(monkeypatch, driver_of):
    buried(3)
    one = redrive.start(Selection(), by="ana", conditions=Conditions(canary=2))
    with monkeypatch.context() as away:
        away.setattr(current_app.conf, "broker_write_url", "redis://127.0.0.1:1/0")
        driver = driver_of(one)
        while driver.drive(30) is not None:
            pass
        one.refresh_from_db()
        assert one.state == Redrive.State.STOPPED
        redrive.resume(one, by="ana")
        assert one.state == Redrive.State.CANARY
        # The next hiccup does not stop it at once.
        assert driver_of(one).drive(30) == 1
    assert driver_of(one).drive(5) == 1
    one.refresh_from_db()
    assert (one.state, one.sent) == (Redrive.State.CANARY, 2)
    died(DeadLetter.objects.filter(state=State.REPLAYING).first())
    assert driver_of(one).drive(5) is None
    one.refresh_from_db()
    assert one.state == Redrive.State.STOPPED
    # A person has judged this death.
    redrive.resume(one, by="ana")
    assert one.state == Redrive.State.SENDING


def test_what_dies_once_more_after_the_start_is_not_swept_in(driver_of):
    again, fine = buried(2)
    DeadLetter.objects.filter(pk=again.pk).update(state=State.REPLAYING, replay_number=1)
    one = redrive.start(Selection(), by="ana")
    assert one.total == 1
    died(again)
    driver_of(one).drive(5)
    one.refresh_from_db()
    assert (one.sent, one.state) == (1, Redrive.State.WATCHING)
    assert dict(DeadLetter.objects.values_list("pk", "state")) == {fine.pk: State.REPLAYING, again.pk: State.OPEN}


@pytest.fixture
def deaf_broker(monkeypatch):
    """A broker that never answers: it takes the connection, and calls what the test sets before it hangs up."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:

        def serve():
            while True:
                try:
                    caller, _address = server.accept()
                except OSError:
                    return
                with caller:
                    meanwhile()

        calls, hang_up = [], threading.Event()

        def meanwhile():
            for call in calls:
                call()
            if not calls:
                hang_up.wait(20)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        inspection.cluster()
        monkeypatch.setattr(current_app.conf, "broker_write_url", f"redis://127.0.0.1:{server.getsockname()[1]}/0")
        yield calls
        hang_up.set()


def test_a_driver_that_is_refused_too_late_leaves_the_slice_to_its_successor(driver_of, deaf_broker):
    buried(2)
    one = redrive.start(Selection(), by="ana")
    driver = driver_of(one)

    def another_takes_over():
        Redrive.objects.update(driver=new_driver())
        connection.close()

    deaf_broker.append(another_takes_over)
    assert driver.drive(5) is None
    one.refresh_from_db()
    assert (one.cursor, one.sent_to, one.refusals) == (one.upto, 0, 0)
    assert set(DeadLetter.objects.values_list("state", flat=True)) == {State.REPLAYING}
    assert RedriveItem.objects.filter(outcome=RedriveItem.Outcome.SENT).count() == 2


def test_a_task_that_runs_out_of_time_was_not_refused_by_the_broker(driver_of, deaf_broker):
    buried(2)
    one = redrive.start(Selection(), by="ana")

    def out_of_time(*_):
        raise SoftTimeLimitExceeded

    before = signal.signal(signal.SIGALRM, out_of_time)
    signal.setitimer(signal.ITIMER_REAL, 1)
    try:
        with pytest.raises(SoftTimeLimitExceeded):
            driver_of(one).drive(5)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    one.refresh_from_db()
    assert (one.refusals, one.sent_to < one.cursor) == (0, True)
    assert set(DeadLetter.objects.values_list("state", flat=True)) == {State.REPLAYING}


def test_what_was_confirmed_beyond_a_refused_letter_is_counted_to_its_end(driver_of):
    refused, confirmed = buried(2)
    one = redrive.start(Selection(), by="ana")
    # The broker had the second one only, and the first was discarded before its next turn.
    Redrive.objects.update(cursor=refused.pk - 1, sent_to=refused.pk - 1, sent=1)
    RedriveItem.objects.create(redrive=one, dead_letter=confirmed, replay_number=1)
    DeadLetter.objects.filter(pk=confirmed.pk).update(state=State.REPLAYING, replay_number=1)
    DeadLetter.objects.filter(pk=refused.pk).update(state=State.DISCARDED)
    assert driver_of(one).drive(5) is None
    assert succeeded(confirmed.task_id, 1)
    tally(one)
    assert (one.state, one.sent, one.succeeded) == (Redrive.State.DONE, 1, 1)


def test_a_letter_whose_key_was_taken_away_amid_its_replay_is_open_again(driver_of, settings, deaf_broker):
    settings.DEADLETTERS_KEYS = [new_key()]
    (sealed,) = buried(1)
    for name, value in Envelope.of(sealed).columns().items():
        setattr(sealed, name, json.loads(value) if name in {"headers", "properties"} else value)
    sealed.save()
    one = redrive.start(Selection(), by="ana")
    # Claimed by a driver that dies before it has sent it.
    deaf_broker.append(lambda: (Redrive.objects.update(driver=new_driver()), connection.close()))
    assert driver_of(one).drive(5) is None
    settings.DEADLETTERS_KEYS = [new_key()]
    assert driver_of(one).drive(5) is None
    sweep(timedelta())
    assert DeadLetter.objects.get().state == State.OPEN
    tally(one)
    assert (one.state, one.sent, one.skipped) == (Redrive.State.DONE, 0, 1)


def test_whoever_interrupts_a_command_that_only_waits_is_not_told_that_it_is_paused(tmp_path):
    buried(1)
    command = Process("-c", INTERRUPTED, log=tmp_path / "command.log", DJANGO_SETTINGS_MODULE="config.settings")
    eventually(lambda: Redrive.objects.filter(state=Redrive.State.WATCHING).exists())
    command.process.send_signal(signal.SIGINT)
    assert command.process.wait(30) == 0
    assert "has sent everything" in command.output
    assert "is paused" not in command.output


def test_who_looks_while_another_counts_only_reads(driver_of):
    (dead,) = buried(1)
    one = redrive.start(Selection(), by="ana")
    driver_of(one).drive(5)
    assert succeeded(dead.task_id, 1)

    def a_page_looks():
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = '2s'")
        looked = Redrive.objects.get()
        tally(looked)
        assert looked.succeeded == 0

    with transaction.atomic():
        Redrive.objects.select_for_update().get()
        assert elsewhere(a_page_looks) == []
    tally(one)
    assert one.succeeded == 1


def test_a_letter_that_cannot_be_read_does_not_hold_up_the_others(driver_of):
    _fine, odd, deep = buried(3)
    odd.headers = {**odd.headers, "price": {"__type__": "decimal", "__value__": "x"}}
    odd.save()
    # Deeper than Python reads. A worker says what it thinks of it.
    DeadLetter.objects.filter(pk=deep.pk).update(body=b"[" + b"[" * 9999 + b"]" * 9999 + ALONE)
    one = redrive.start(Selection(), by="ana")
    assert driver_of(one).drive(5) is None
    one.refresh_from_db()
    assert (one.sent, one.skipped, one.state) == (2, 1, Redrive.State.WATCHING)
    (skipped,) = RedriveItem.objects.filter(outcome=RedriveItem.Outcome.SKIPPED)
    assert skipped.dead_letter_id == odd.pk
    assert "headers cannot be read" in skipped.why


def test_a_slice_is_as_large_as_fits_into_memory(driver_of, monkeypatch):
    buried(3, body=b"[[]" + b" " * 100 + ALONE)
    monkeypatch.setattr(batch, "_BYTES", 400)
    one = redrive.start(Selection(), by="ana")
    sent = []
    driver = driver_of(one)
    for _step in range(2):
        driver.step()
        one.refresh_from_db()
        sent.append(one.sent)
    assert sent == [2, 3]
    monkeypatch.setattr(batch, "_BYTES", 1)
    buried(1)
    two = redrive.start(Selection(), by="ana")
    driver_of(two).drive(5)
    two.refresh_from_db()
    assert two.sent == 1
