"""Somebody other than beat notices when it stops."""

import os
from datetime import timedelta

import pytest
from django.utils import timezone

from monitoring import watchdog
from schedules.history import Beat
from schedules.liveness import liveness
from tests.processes import Worker, eventually, manage

pytestmark = pytest.mark.django_db(transaction=True)


def ticked(ago, name="host:1", *, leads=True):
    at = timezone.now() - timedelta(seconds=ago)
    Beat.objects.create(name=name, started_at=at, ticked_at=at, leads_since=at if leads else None)


def test_the_leaders_tick_and_who_stands_by_are_told_apart():
    assert liveness().silent
    ticked(2)
    ticked(1, "other:1", leads=False)
    ticked(90, "gone:1", leads=False)
    found = liveness()
    assert (found.leader, found.standing_by, found.silent) == ("host:1", 1, False)
    assert timedelta(seconds=1) < found.age < timedelta(seconds=15)
    assert liveness("gone").silent
    assert not liveness("other").silent


def test_nothing_is_told_where_no_beat_ever_ran_or_while_one_ticks():
    assert not watchdog.look()
    ticked(1)
    assert not watchdog.look()


@pytest.mark.worker
def test_a_worker_alerts_when_no_beat_ticks_and_only_once(folder):
    ticked(60)
    mail = folder / "mail"
    # A broker of its own: the mail is a task, and another worker of these tests would send it elsewhere.
    broker = f"{os.environ['BROKER_URL'].rsplit('/', 1)[0]}/3"
    worker = Worker(folder, BROKER_URL=broker, EMAIL_URL=f"file:///{mail}", ADMINS="ana@example.com")
    try:
        eventually(lambda: any(mail.glob("*")), what="a mail is sent")
        eventually(lambda: worker.output.count("beat.silent") >= 2, what="it looks again")
        (told,) = mail.glob("*")
        assert "Schedules have stopped" in told.read_text()
    finally:
        worker.stop()


def test_the_probe_answers_with_its_exit_code():
    assert manage("beat_ready").returncode == 1
    ticked(1)
    assert manage("beat_ready", "--any").returncode == 0
    import socket

    ticked(1, f"{socket.gethostname()}:7", leads=False)
    done = manage("beat_ready", "--json")
    assert (done.returncode, '"ready": true' in done.stdout) == (0, True)
    assert manage("beat_ready", "--any", DATABASE_URL="postgres://nobody@127.0.0.1:1/none").returncode == 2
