"""What people do to queues, tasks and workers, with real ones."""

import pytest
from django.conf import settings
from django.contrib.auth.models import Permission
from django.test import Client
from redis import Redis

from deadletters.models import Act
from monitoring import control, queues, workers
from monitoring.models import PausedQueue
from monitoring.workers import pings
from tests.processes import Worker, eventually
from tests.tasks import echo, sleep

pytestmark = [pytest.mark.worker, pytest.mark.django_db(transaction=True)]

SCREEN = "/workers/"


@pytest.fixture(autouse=True)
def nothing_remembered():
    pings.forget()


@pytest.fixture
def boss(client, admin_user):
    client.force_login(admin_user)
    return client


@pytest.fixture
def crew(tmp_path):
    """A worker of two queues that nobody else consumes."""
    crew = Worker(tmp_path, queue="crew,others")
    yield crew
    crew.stop()


def waiting(queue):
    return next((row.waiting for row in queues.queues() if row.name == queue), 0)


def acts(subject):
    """(verb, who, reason) of what the audit trail says about it."""
    return list(Act.objects.filter(subject=subject).order_by("pk").values_list("verb", "who", "reason"))


def member(name):
    pings.stale()
    return next((one for one in workers.alive().members if one.name == name), None)


def test_a_paused_queue_waits_also_for_workers_that_start_later_until_it_is_resumed(crew, boss, admin_user, tmp_path):
    eventually(lambda: member(crew.name))
    page = boss.post(f"{SCREEN}pause/", {"queue": "crew", "reason": "disk full"}, follow=True).content.decode()
    assert "Queue crew is paused." in page
    assert member(crew.name).queues == ("others",)
    later = Worker(tmp_path, queue="crew")
    try:
        sent = echo.apply_async((7,), queue="crew")
        assert echo.apply_async((8,), queue="others").get(timeout=30) == 8
        assert eventually(lambda: waiting("crew") == 1)
        row = next(row for row in queues.queues() if row.name == "crew")
        assert 0 <= row.oldest < 60
        assert (row.paused.by, row.paused.reason) == ("admin", "disk full")
        with pytest.raises(control.Refused):
            control.pause_queue("crew", by=admin_user)
        eventually(lambda: member(later.name))
        told = control.resume_queue("crew", by=admin_user)
        assert set(told.workers) == {crew.name, later.name}
        assert told.late == ()
        assert sent.get(timeout=30) == 7
        # A worker that loses its connection takes from the queue again when it is back.
        Redis.from_url(settings.CELERY_BROKER_URL).client_kill_filter(_type="normal", skipme=True)
        pings.forget()
        assert eventually(lambda: member(crew.name) and member(crew.name).queues == ("crew", "others"))
    finally:
        later.stop()
    assert not PausedQueue.objects.exists()
    assert acts("crew") == [("queue_paused", "admin", "disk full"), ("queue_resumed", "admin", "")]
    assert Act.objects.earliest("at").origin == f"{SCREEN}pause/ (127.0.0.1)"


def test_a_revoked_task_does_not_run_and_a_running_one_can_be_terminated(crew, boss):
    eventually(lambda: member(crew.name))
    busy = [sleep.apply_async((60,), queue="others") for _ in range(2)]
    eventually(lambda: (pings.stale(), len(workers.alive().running) >= 2)[1])
    text = boss.get(SCREEN).content.decode()
    assert "tests.sleep" in text
    assert "2 / 2" in text
    queued = echo.apply_async((1,), queue="crew")
    boss.post(f"{SCREEN}revoke/", {"task": queued.id})
    for task in busy:
        boss.post(f"{SCREEN}revoke/", {"task": task.id, "terminate": "1"})
    eventually(lambda: queued.state == "REVOKED", what=queued.state)
    eventually(lambda: all(task.state in {"REVOKED", "FAILURE"} for task in busy))
    assert acts(queued.id) == [("task_revoked", "admin", "")]
    assert acts(busy[0].id) == [("task_terminated", "admin", "")]
    assert queued.id in boss.get("/deadletters/act/").content.decode()


def test_a_worker_is_told_to_end_and_ends(crew, boss):
    eventually(lambda: member(crew.name))
    page = boss.post(f"{SCREEN}shut-down/", {"worker": crew.name}, follow=True).content.decode()
    assert "finishes what it runs, and then ends" in page
    assert eventually(lambda: not crew.alive)
    assert acts(crew.name) == [("worker_stopped", "admin", "")]


@pytest.mark.parametrize("act", ["pause", "resume", "revoke", "shut-down"])
def test_only_who_may_and_only_by_a_post_with_a_token(act, admin_user, django_user_model):
    url = f"{SCREEN}{act}/"
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(admin_user)
    assert strict.get(url).status_code == 405
    assert strict.post(url).status_code == 403
    viewer = django_user_model.objects.create_user("eve", is_staff=True)
    viewer.user_permissions.add(Permission.objects.get(codename="view_workers"))
    eve = Client()
    eve.force_login(viewer)
    assert eve.post(url).status_code == 403
    text = eve.get(SCREEN).content.decode()
    assert "Shut down" not in text
    assert "Revoke" not in text


def test_what_makes_no_sense_is_refused_with_a_sentence(boss):
    for act, values, says in [
        ("pause", {"queue": "nobody-takes-it"}, "No worker consumes nobody-takes-it"),
        ("resume", {"queue": "default"}, "Queue default is not paused"),
        ("shut-down", {"worker": "gone@host"}, "No worker of this name answers: gone@host"),
        ("revoke", {"task": " "}, "Give the id of the task"),
    ]:
        page = boss.post(f"{SCREEN}{act}/", values, follow=True)
        assert says in page.content.decode(), [str(m) for m in page.context["messages"]]


def test_without_a_broker_the_screen_says_so_and_nothing_is_changed(boss, monkeypatch, settings):
    from celery import current_app

    monkeypatch.setattr(current_app.conf, "broker_write_url", "redis://127.0.0.1:1/0")
    assert "The broker does not answer" in boss.get(SCREEN).content.decode()
    page = boss.post(f"{SCREEN}pause/", {"queue": "default"}, follow=True).content.decode()
    assert "nothing was changed" in page
    assert not PausedQueue.objects.exists()
