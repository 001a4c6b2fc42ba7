"""A redrive step by step: nobody consumes its queue, so that each outcome comes when the test says so."""

import threading

import pytest
from celery import current_app
from django.db import connection
from django.utils import timezone

from deadletters.capture.outcome import ended
from deadletters.models import DeadLetter, Event, Redrive, State
from deadletters.redrive import drive, redrive
from deadletters.redrive.redrive import Conditions
from deadletters.redrive.tally import tally
from deadletters.replay.cluster import inspection
from deadletters.selection import Selection
from tests.deadletters.letters import letter

pytestmark = [pytest.mark.worker, pytest.mark.django_db(transaction=True)]

QUEUE = "redrive-steps"


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
    fine, again = buried(2)
    DeadLetter.objects.filter(pk=again.pk).update(state=State.REPLAYING, replay_number=1)
    one = redrive.start(Selection(), by="ana")
    assert one.total == 1
    died(again)
    driver_of(one).drive(5)
    one.refresh_from_db()
    assert (one.sent, one.state) == (1, Redrive.State.WATCHING)
    assert dict(DeadLetter.objects.values_list("pk", "state")) == {fine.pk: State.REPLAYING, again.pk: State.OPEN}
