"""A redrive sends many letters once each: canary, stop, pause, rate, and the death of its driver."""

import time
from datetime import timedelta

import pytest
from django.utils import timezone

from deadletters.models import DeadLetter, Redrive, RedriveItem, State
from deadletters.redrive import drive, policy, redrive, tally, tend
from deadletters.redrive.redrive import Conditions
from deadletters.redrives import new_driver
from deadletters.selection import Selection
from tests.processes import Process, eventually
from tests.tasks import count_run, die, die_unless

pytestmark = [pytest.mark.worker, pytest.mark.django_db(transaction=True)]


@pytest.fixture(autouse=True)
def nothing_on_its_way():
    """What a test sent has ended before the next one begins: a late death would be a letter of that one."""
    yield

    def ended():
        for one in Redrive.objects.all():
            tally.tally(one)
        return not RedriveItem.objects.filter(outcome=RedriveItem.Outcome.SENT).exists()

    eventually(ended, what="every outcome")


def buried(count, send):
    """`count` open letters of tasks that really died."""
    for number in range(count):
        send(number)
    return eventually(
        lambda: (found := list(DeadLetter.objects.open().order_by("id"))) and len(found) == count and found,
        what=f"{count} letters",
    )


def driven(one, seconds=40):
    """Drive it here to its end, as the command does."""
    driver = drive.driver_of(one)
    deadline = time.monotonic() + seconds
    while (wait := driver.drive(5)) is not None:
        assert time.monotonic() < deadline
        time.sleep(min(wait, 0.2))
    driver.publisher.close()
    one.refresh_from_db()
    return one


def watched(one, state=Redrive.State.DONE):
    def look():
        tally.tally(one)
        return one.state == state

    eventually(look, what=f"the redrive is {state}")
    return one


def test_each_letter_is_sent_once_and_its_outcome_is_counted(worker, tmp_path):
    missing = tmp_path / "missing"
    buried(12, lambda n: die_unless.delay(str(missing), n) if n % 4 else die.delay(str(n)))
    missing.touch()
    one = redrive.start(Selection(), by="ana", reason="the file is there")
    assert (one.total, one.state) == (12, "sending")
    driven(one)
    watched(one)
    assert (one.sent, one.succeeded, one.died, one.skipped) == (12, 9, 3, 0)
    assert DeadLetter.objects.filter(state=State.RESOLVED, replay_number=1).count() == 9
    assert RedriveItem.objects.filter(redrive=one).count() == 12


def test_nothing_follows_a_canary_that_dies_again(worker, tmp_path):
    buried(8, lambda n: die.delay(str(n)))
    one = driven(redrive.start(Selection(), by="ana", conditions=Conditions(canary=3)))
    assert one.state == Redrive.State.STOPPED
    # It does not wait for the others when one has died.
    assert one.why.endswith("of the first 3 died again.")
    assert one.sent == 3
    assert one.died >= 1
    assert DeadLetter.objects.filter(replay_number=0, state=State.OPEN).count() == 5


def test_the_rest_follows_a_canary_that_succeeds(worker, tmp_path):
    missing = tmp_path / "missing"
    buried(8, lambda n: die_unless.delay(str(missing), n))
    missing.touch()
    one = driven(redrive.start(Selection(), by="ana", conditions=Conditions(canary=2)))
    assert one.canary_passed
    watched(one)
    assert (one.sent, one.succeeded) == (8, 8)


def test_it_stops_when_too_many_die_again_and_a_person_lets_it_go_on(worker):
    buried(30, lambda n: die.delay(str(n)))
    one = redrive.start(Selection(), by="ana", conditions=Conditions(rate=20, stop_above=20))
    driven(one)
    assert one.state == Redrive.State.STOPPED
    assert "died again" in one.why
    assert 10 <= one.sent < 30
    # What she had seen does not count for the next stop: ten more outcomes are needed.
    redrive.resume(one, by="ana")
    sent = one.sent
    driven(one)
    assert one.sent > sent
    assert one.sent == RedriveItem.objects.filter(redrive=one).count()


def test_what_dies_after_the_start_is_not_swept_in(worker):
    buried(3, lambda n: die.delay(str(n)))
    one = redrive.start(Selection(), by=None)
    die.delay("later")
    eventually(lambda: DeadLetter.objects.open().count() == 4)
    driven(one)
    watched(one)
    assert one.sent == 3
    assert DeadLetter.objects.filter(replay_number=0).count() == 1


def test_a_rate_is_held(worker, tmp_path):
    missing = tmp_path / "missing"
    buried(20, lambda n: die_unless.delay(str(missing), n))
    missing.touch()
    began = time.monotonic()
    one = driven(redrive.start(Selection(), by=None, conditions=Conditions(rate=10)))
    assert one.sent == 20
    assert time.monotonic() - began > 1.5  # 20 letters at 10 a second, the first tick is free


def test_a_paused_redrive_sends_nothing_and_a_cancelled_one_leaves_the_rest_open(worker, tmp_path):
    missing = tmp_path / "missing"
    buried(10, lambda n: die_unless.delay(str(missing), n))
    missing.touch()
    one = redrive.start(Selection(), by="ana", conditions=Conditions(rate=5))
    driver = drive.driver_of(one)
    driver.step()
    redrive.pause(one, by="ben")
    assert driver.drive(2) is None
    one.refresh_from_db()
    assert (one.state, one.sent) == ("paused", 1)
    redrive.resume(one, by="ben")
    assert driver.step() is None  # its token is no longer the redrive's
    drive.driver_of(one).step()
    redrive.cancel(one, by="ben")
    driven(one)
    assert one.state == "cancelled"
    assert DeadLetter.objects.open().filter(replay_number=0).count() == 10 - one.sent


def test_a_worker_drives_what_a_person_starts_and_a_dead_driver_is_replaced(worker, tmp_path):
    missing, runs = tmp_path / "missing", tmp_path / "runs"
    buried(5, lambda n: die_unless.apply_async((str(missing), n), link=count_run.s(path=str(runs))))
    missing.touch()
    one = redrive.start(Selection(), by="ana", conditions=Conditions(rate=2.5))
    # Its driver is one that died: nobody was handed the token.
    assert tend.tend()["handed_over"] == 0
    Redrive.objects.update(lease_until=timezone.now())
    assert tend.tend()["handed_over"] == 1
    watched(one)
    assert one.sent == 5
    eventually(lambda: len(runs.read_text().splitlines()) == 5)


def test_a_command_waits_for_what_a_worker_took_over(worker, tmp_path):
    missing = tmp_path / "missing"
    buried(6, lambda n: die_unless.delay(str(missing), n))
    missing.touch()
    asked = ("manage.py", "replay_dead_letters", "--all", "--rate", "2", "--wait", "--json")
    command = Process(*asked, log=tmp_path / "command.log")
    one = eventually(lambda: Redrive.objects.filter(sent__gt=0).first())
    Redrive.objects.update(driver=new_driver())
    one.refresh_from_db()
    tend.hand_over(one)
    assert command.process.wait(60) == 0
    assert '"state": "done"' in command.output


def test_a_policy_replays_what_died_long_enough_ago_until_its_breaker_opens(worker, settings, tmp_path):
    assert policy.apply() == []  # none by default
    settings.DEADLETTERS_REPLAY_POLICIES = {"tests.die_unless": {"after": 0, "times": 2, "breaker": 50, "rate": 100}}
    missing = tmp_path / "missing"
    buried(6, lambda n: die_unless.delay(str(missing if n else tmp_path / "never"), n))
    missing.touch()
    assert tend.tend()["looked"] == 1
    one = watched(Redrive.objects.get())
    # The oldest one is hopeless; the others need not wait for it.
    assert (one.who, one.sent, one.succeeded, one.died) == ("policy tests.die_unless", 6, 5, 1)
    Redrive.objects.update(state=Redrive.State.PAUSED)
    assert policy.apply() == []
    Redrive.objects.update(state=Redrive.State.STOPPED, died=6)
    assert policy.apply() == []  # the breaker is open
    Redrive.objects.update(moved_at=timezone.now() - timedelta(hours=2))
    DeadLetter.objects.filter(state=State.OPEN).update(replay_number=9)  # as after an hour without a broker
    (two,) = policy.apply()
    one.refresh_from_db()
    assert (two.total, one.state) == (1, Redrive.State.CANCELLED)
    Redrive.objects.filter(pk=two.pk).delete()
    DeadLetter.objects.update(deaths=3)
    assert policy.apply() == []


def test_a_policy_that_cannot_be_read_keeps_no_redrive_waiting(worker, settings):
    buried(1, lambda n: die.delay(str(n)))
    one = redrive.start(Selection(), by="ana")
    Redrive.objects.update(lease_until=timezone.now())
    settings.DEADLETTERS_REPLAY_POLICIES = {"tests.die": {"no such key": 1}}
    assert tend.tend()["handed_over"] == 1
    watched(one)
