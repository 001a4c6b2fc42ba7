"""Alerts, durations, reports and pings with real workers. Theirs is a Redis database of its own: other workers of the session run without Slack."""

import json
import socket
import threading
from datetime import timedelta
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest
from celery import current_app
from django.conf import settings
from django.utils import timezone

from deadletters.models import DeadLetter, State
from deadletters.secrets.redact_text import MASK
from monitoring import heartbeats, workers
from monitoring.models import Alert
from monitoring.workers import Pings
from tests.processes import Worker, eventually
from tests.tasks import die, echo, pay

pytestmark = [pytest.mark.worker, pytest.mark.django_db(transaction=True)]


class Outside:
    """What the platform talks to: a Slack, a statsd and a mail folder on this machine."""

    def __init__(self, folder):
        self.posts, self.statuses, self.mail = [], [], folder / "mail"
        outside = self

        class Slack(BaseHTTPRequestHandler):
            def do_POST(self):
                outside.posts.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(outside.statuses.pop(0) if outside.statuses else 200)
                self.end_headers()

            def log_message(self, *arguments):
                pass

        self.slack = ThreadingHTTPServer(("127.0.0.1", 0), Slack)
        self.slack.daemon_threads = True
        threading.Thread(target=self.slack.serve_forever, daemon=True).start()
        self.statsd = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.statsd.bind(("127.0.0.1", 0))
        self.statsd.settimeout(30)
        self.broker_url = urlsplit(settings.CELERY_BROKER_URL)._replace(path="/7").geturl()

    @property
    def environment(self):
        return {
            "BROKER_URL": self.broker_url,
            "SLACK_WEBHOOK_URL": f"http://127.0.0.1:{self.slack.server_port}/services/secret-part",
            "ADMINS": "ana@example.com,bo@example.com",
            "EMAIL_URL": f"file:///{self.mail}",
            "STATSD_URL": f"statsd://127.0.0.1:{self.statsd.getsockname()[1]}",
            "SITE_URL": "https://ops.example.com",
        }

    def send(self, name, *args, **kwargs):
        with current_app.connection_for_write(self.broker_url) as connection:
            return current_app.send_task(name, args, kwargs, connection=connection)

    def mails(self):
        texts = [file.read_bytes() for file in self.mail.glob("*")] if self.mail.exists() else []
        return [
            message_from_bytes(part) for text in texts for part in text.split(b"\n" + b"-" * 79 + b"\n") if part.strip()
        ]

    def timings(self, of):
        while True:
            for line in self.statsd.recv(4096).decode().splitlines():
                if line.startswith(f"celery.task.{of}.duration:"):
                    return float(line.split(":")[1].removesuffix("|ms"))

    def close(self):
        self.slack.shutdown()
        self.slack.server_close()
        self.statsd.close()


@pytest.fixture(scope="module")
def running(django_db_setup, tmp_path_factory):
    folder = tmp_path_factory.mktemp("monitoring")
    outside = Outside(folder)
    outside.worker = Worker(folder, **outside.environment)
    yield outside
    outside.worker.stop()
    outside.close()


@pytest.fixture
def outside(running):
    running.posts.clear()
    running.statuses.clear()
    for file in running.mail.glob("*"):
        file.unlink()
    return running


def test_a_dead_letter_reaches_slack_and_mail(outside):
    outside.send(die.name, message="the card <was> refused")
    letter = eventually(DeadLetter.objects.first)
    post = eventually(lambda: outside.posts and outside.posts[0])
    assert "*Dead letter: tests.die*" in post["text"]
    assert "ValueError: the card &lt;was&gt; refused" in post["text"]
    assert "https://ops.example.com/" in post["text"]
    sent = eventually(lambda: outside.mails() and outside.mails()[0])
    assert sent["To"] == "ana@example.com, bo@example.com"
    assert sent["Subject"] == "[Redeliver] Dead letter: tests.die"
    assert letter.state == State.OPEN
    assert "secret-part" not in outside.worker.output


def test_an_alert_holds_no_secret(outside):
    outside.send(pay.name, "bob", "DE0212030000", "tok-7f3a9c", "/nowhere", password="hunter2hunter2")
    post = eventually(lambda: outside.posts and outside.posts[0])
    sent = eventually(lambda: outside.mails() and outside.mails()[0])
    text = sent.get_payload(decode=True).decode()
    for said in (post["text"], text, outside.worker.output):
        assert not [secret for secret in ("DE0212030000", "tok-7f3a9c", "hunter2hunter2") if secret in said]
    assert f"bob: {MASK} was refused, password={MASK}, see postgres://bob:{MASK}@db.example/pay" in text


def test_a_storm_is_one_alert_and_the_rest_is_counted(outside):
    for _ in range(50):
        outside.send(die.name, message="storm")
    eventually(lambda: sum(Alert.objects.values_list("held_back", flat=True)) == 49)
    eventually(lambda: outside.posts and outside.mails())
    Alert.objects.update(last_sent_at=timezone.now() - timedelta(days=1))
    outside.send(die.name, message="storm")
    eventually(lambda: len(outside.posts) == 2 and len(outside.mails()) == 2)
    assert "49 more died" in outside.posts[1]["text"]


def test_a_busy_slack_is_tried_again(outside):
    outside.statuses += [503, 429]
    outside.send(die.name, message="busy")
    eventually(lambda: len(outside.posts) == 3)
    assert DeadLetter.objects.count() == 1


def test_the_death_of_an_alert_is_a_letter_but_no_alert(outside):
    outside.statuses += [404]
    outside.send(die.name, message="revoked webhook")
    eventually(lambda: DeadLetter.objects.filter(task_name="monitoring.alert_slack").exists())
    assert "secret-part" not in DeadLetter.objects.get(task_name="monitoring.alert_slack").traceback
    outside.send(die.name, message="quite another error")
    eventually(lambda: len(outside.posts) == 2 and len(outside.mails()) == 2)
    assert Alert.objects.count() == 2


def test_the_duration_of_each_task_reaches_statsd_and_the_log(outside):
    outside.send("tests.sleep", 0.2).get(timeout=30)
    assert 200 <= outside.timings("tests.sleep") < 30_000
    eventually(lambda: "task.finished" in outside.worker.output and "state=SUCCESS" in outside.worker.output)
    outside.send(die.name)
    assert outside.timings("tests.die") > 0
    eventually(lambda: "state=FAILURE" in outside.worker.output)


def test_the_heartbeat_is_recorded_and_the_echo_echoes(outside):
    outside.send("monitoring.heartbeat").get(timeout=30)
    assert timezone.now() - heartbeats.last() < timedelta(minutes=1)
    said = outside.send("monitoring.echo", "arg1", "arg2", key="value").get(timeout=30)
    assert said == {"args": ["arg1", "arg2"], "kwargs": {"key": "value"}}


def test_the_reports_are_mailed_and_return_their_figures(outside):
    outside.send(die.name, message="for the digest")
    eventually(lambda: outside.mails() and DeadLetter.objects.exists())
    digest = outside.send("monitoring.digest").get(timeout=30)
    assert digest["open"] == 1
    assert digest["errors"][0]["error"] == "ValueError: for the digest"
    report = outside.send("monitoring.daily_report").get(timeout=30)
    assert report["succeeded"] == 0
    subjects = {sent["Subject"] for sent in outside.mails()}
    assert {"[Redeliver] 1 open dead letters", f"[Redeliver] Daily report of {report['day']}"} <= subjects


def test_the_clean_up_runs(outside):
    assert outside.send("monitoring.clean_up").get(timeout=30) == {
        "dead_letters": 0,
        "open_dead_letters": 0,
        "errors": 0,
        "runs": 0,
        "chords": 0,
        "results": 0,
        "files": 0,
        "occurrences": 0,
        "acts": 0,
    }


def test_a_ping_finds_who_is_alive_and_then_who_fell_silent(worker, tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "FRESH_SECONDS", 0.0)
    pings = Pings()
    other = Worker(tmp_path, queue="elsewhere")
    eventually(lambda: {worker.name, other.name} <= set(pings.workers().alive))
    other.stop()
    eventually(lambda: other.name in dict(pings.workers().silent))
    assert worker.name in pings.workers().alive
    assert echo.delay("still here").get(timeout=30) == "still here"


def test_callers_at_once_share_one_ping(worker, monkeypatch):
    asked = []
    real = workers.members
    monkeypatch.setattr(workers, "members", lambda: asked.append(1) or real())
    pings = Pings()
    callers = [threading.Thread(target=pings.workers) for _ in range(6)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(asked) == 1
