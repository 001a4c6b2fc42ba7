import socket

import pytest

from monitoring import durations


class Task:
    name = "shop.charge|card:é@1"


def hang_up(url):
    if client := durations._client(url):
        client.close()
    durations._client.cache_clear()


@pytest.fixture
def statsd(settings):
    """A statsd on loopback: a real UDP socket."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    listener.bind(("127.0.0.1", 0))
    listener.settimeout(10)
    settings.STATSD_URL = f"statsd://127.0.0.1:{listener.getsockname()[1]}"
    yield listener
    listener.close()
    hang_up(settings.STATSD_URL)


def test_a_task_s_duration_reaches_statsd_and_the_log(statsd, caplog):
    with caplog.at_level("INFO", "monitoring.durations"):
        durations.started(task_id="1")
        durations.finished(task_id="1", task=Task, state="SUCCESS")
    name, value = statsd.recv(512).decode().split(":")
    assert name == "celery.task.shop.charge_card___1.duration"
    assert value.endswith("|ms")
    record = caplog.records[0]
    assert (record.message, record.state) == ("task.finished", "SUCCESS")
    assert record.duration_ms >= 0


def test_a_task_whose_start_was_not_seen_is_not_measured(statsd, caplog):
    durations.finished(task_id="unseen", task=Task, state="SUCCESS")
    assert caplog.records == []


@pytest.mark.parametrize("url", ["statsd://127.0.0.1:1", "statsd://no-such-host.invalid:8125"])
def test_an_absent_statsd_breaks_nothing(settings, url, caplog):
    settings.STATSD_URL = url
    for number in ("1", "2"):
        durations.started(task_id=number)
        durations.finished(task_id=number, task=Task, state="FAILURE")
    assert sum(record.message == "statsd.unusable" for record in caplog.records) <= 1
    hang_up(url)


def test_no_start_is_remembered_after_the_end():
    durations.started(task_id="1")
    durations.finished(task_id="1", task=Task, state="RETRY")
    assert durations._started == {}
