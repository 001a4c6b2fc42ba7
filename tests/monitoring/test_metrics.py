import uuid
from datetime import timedelta
from functools import partial

import pytest
from celery import current_app
from django.utils import timezone
from django_celery_beat.models import IntervalSchedule, PeriodicTask
from django_celery_results.models import TaskResult
from prometheus_client.parser import text_string_to_metric_families

from deadletters.capture.spool import spool
from deadletters.models import Cause, State
from monitoring import heartbeats, metrics
from tests.processes import manage

pytestmark = pytest.mark.django_db


def scraped(text):
    """Sample name and labels -> value."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_scrape_tells_what_the_store_holds(letter):
    letter(died_at=timezone.now() - timedelta(hours=2))
    letter(cause=Cause.EXPIRED)
    letter(state=State.RESOLVED)
    heartbeats.record(timezone.now() - timedelta(seconds=30))
    TaskResult.objects.create(task_id=str(uuid.uuid4()), status="SUCCESS")
    found = scraped(metrics.text().decode())
    assert found["redeliver_dead_letters", "open"] == 2
    assert found["redeliver_dead_letters", "resolved"] == 1
    assert found["redeliver_dead_letters", "discarded"] == 0
    assert found["redeliver_open_dead_letters", "expired"] == 1
    assert found["redeliver_open_dead_letters", "worker_lost"] == 0
    assert found["redeliver_oldest_open_dead_letter_age_seconds",] == pytest.approx(7200, abs=60)
    assert found["redeliver_results_last_hour", "SUCCESS"] == 1
    assert found["redeliver_results_last_hour", "FAILURE"] == 0
    assert found["redeliver_beat_last_heartbeat_age_seconds",] == pytest.approx(30, abs=20)
    assert found["redeliver_up", "database"] == found["redeliver_up", "broker"] == 1
    assert ("redeliver_queue_depth", "default") in found
    assert any(name == "redeliver_build_info" for name, *_ in found)


def test_what_waits_in_a_queue_is_counted():
    # A queue of its own, known from a schedule: a worker of this test run consumes the default one.
    every = IntervalSchedule.objects.create(every=1, period="days")
    PeriodicTask.objects.create(name="patient", task="tests.echo", interval=every, queue="patient-metrics")
    with current_app.connection_for_write() as broker, broker.SimpleQueue("patient-metrics") as queue:
        queue.put({"not": "a task"})
        try:
            assert scraped(metrics.text().decode())["redeliver_queue_depth", "patient-metrics"] == 1
        finally:
            queue.clear()


def test_a_broker_that_is_away_is_told_and_nothing_fails(monkeypatch, letter):
    letter()
    nobody = partial(current_app.connection_for_write, "redis://127.0.0.1:1/0")
    monkeypatch.setattr(current_app, "connection_for_write", nobody)
    found = scraped(metrics.text().decode())
    assert found["redeliver_up", "broker"] == 0
    assert found["redeliver_up", "database"] == 1
    assert found["redeliver_dead_letters", "open"] == 1
    assert not [name for name, *_ in found if name in {"redeliver_queue_depth", "redeliver_workers"}]


def test_a_database_that_is_away_is_told_and_the_rest_is_there():
    command = "from monitoring import metrics; print(metrics.text().decode())"
    done = manage("shell", "--no-imports", "-c", command, DATABASE_URL="postgres://nobody:x@127.0.0.1:1/nowhere")
    assert done.returncode == 0, done.stderr
    found = scraped(done.stdout)
    assert (found["redeliver_up", "database"], found["redeliver_up", "broker"]) == (0, 1)
    assert ("redeliver_workers",) in found
    assert not [name for name, *_ in found if name == "redeliver_dead_letters"]


def test_what_waits_in_the_spool_is_counted_and_a_broken_spool_is_told(settings, tmp_path):
    settings.DEADLETTERS_SPOOL = str(tmp_path / "spool")
    assert scraped(metrics.text().decode())["redeliver_spooled", "waiting"] == 0
    spool().put(b"{}")
    spool().put(b"{}")
    spool().set_aside(b"rubbish", "torn")
    found = scraped(metrics.text().decode())
    assert (found["redeliver_spooled", "waiting"], found["redeliver_spooled", "set_aside"]) == (2, 1)
    settings.DEADLETTERS_SPOOL = f"{__file__}/no folder"
    assert scraped(metrics.text().decode())["redeliver_up", "spool"] == 0


def test_a_scrape_costs_as_many_queries_with_many_rows_as_with_none(letter, django_assert_num_queries):
    metrics.text()
    with django_assert_num_queries(11):
        metrics.text()
    for _ in range(20):
        letter()
    with django_assert_num_queries(11):
        metrics.text()


def test_without_a_token_only_this_machine_may_read(client, settings):
    settings.METRICS_TOKEN = ""
    assert client.get("/metrics", REMOTE_ADDR="127.0.0.1").status_code == 200
    assert client.get("/metrics", REMOTE_ADDR="::1").status_code == 200
    for address in ("10.0.0.1", "", "unix:"):
        assert client.get("/metrics", REMOTE_ADDR=address).status_code == 403
    assert client.get("/metrics", REMOTE_ADDR="127.0.0.1", headers={"X-Forwarded-For": "8.8.8.8"}).status_code == 403


def test_with_a_token_it_is_needed_from_everywhere(client, settings):
    settings.METRICS_TOKEN = "a token"
    for headers in ({}, {"Authorization": "Bearer no"}, {"Authorization": "a token"}, {"Authorization": "Bearer é"}):
        refused = client.get("/metrics", REMOTE_ADDR="127.0.0.1", headers=headers)
        assert refused.status_code == 401
        assert refused.headers["WWW-Authenticate"] == "Bearer"
        assert b"a token" not in refused.content
    read = client.get("/metrics", REMOTE_ADDR="10.0.0.1", headers={"Authorization": "Bearer a token"})
    assert read.status_code == 200
    assert read.headers["Content-Type"].startswith("text/plain")
    assert "redeliver_up" in read.content.decode()
