import json
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Empty

import pytest
from celery import current_app
from django.core import mail as outbox
from django.db import connections
from django.utils import timezone

from deadletters.models import Cause, ErrorGroup
from monitoring import alerts
from monitoring.channels import mail, slack
from monitoring.models import Alert
from monitoring.notice import NotDelivered, NotDeliveredYet, Notice, one_line

TASKS = ("monitoring.alert_slack", "monitoring.alert_mail")


class Listener:
    """A Slack of our own on loopback: remembers what was posted, answers with `status`."""

    def __init__(self, status=200):
        self.status, self.posts = status, []
        listener = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                listener.posts.append((self.path, json.loads(body)))
                self.send_response(listener.status)
                self.end_headers()

            def log_message(self, *arguments):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server.server_port}/services/T/B/secret-part"

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def listener():
    listener = Listener()
    yield listener
    listener.close()


@pytest.fixture
def told(settings):
    """Both channels are on; what is published stays in a queue of this test that nobody consumes. Returns what was published."""
    settings.SLACK_WEBHOOK_URL, settings.ADMINS, settings.ALERT_EVERY = (
        "https://example.invalid/hook",
        [("a", "a@b")],
        300,
    )
    _route({"monitoring.*": {"queue": "alerts-nobody"}})
    yield _published
    _route(None)
    with current_app.connection_for_write() as broker, broker.SimpleQueue("alerts-nobody") as queue:
        queue.clear()


def _route(routes):
    current_app.conf.task_routes = routes
    current_app.amqp._rtable = None
    current_app.amqp.__dict__.pop("router", None)


def _published():
    found = []
    with current_app.connection_for_write() as broker, broker.SimpleQueue("alerts-nobody") as queue:
        while True:
            try:
                message = queue.get_nowait()
            except Empty:
                return found
            found.append((message.headers["task"], message.decode()[0]))
            message.ack()


def test_a_new_letter_is_told_on_every_configured_channel(letter, told):
    died = letter()
    assert alerts.alert(died)
    assert told() == [(name, [died.pk, 0]) for name in TASKS]


def test_only_configured_channels_are_asked(letter, told, settings):
    settings.SLACK_WEBHOOK_URL = ""
    alerts.alert(letter())
    assert [name for name, _ in told()] == ["monitoring.alert_mail"]
    settings.ADMINS = []
    assert not alerts.alert(letter(fingerprint="other"))
    assert not Alert.objects.filter(fingerprint="other").exists()


def test_fifty_letters_of_one_error_are_one_alert_and_the_next_tells_how_many_were_held_back(letter, told):
    for _ in range(50):
        alerts.alert(letter())
    assert len(told()) == len(TASKS)
    assert Alert.objects.get().held_back == 49
    Alert.objects.update(last_sent_at=timezone.now() - timedelta(seconds=301))
    last = letter()
    assert alerts.alert(last)
    assert told() == [(name, [last.pk, 49]) for name in TASKS]
    assert Alert.objects.get().held_back == 0


@pytest.mark.django_db(transaction=True)
def test_of_many_workers_that_see_the_same_error_at_once_one_speaks(letter, told):
    letters = [letter() for _ in range(24)]

    def tell(died):
        try:
            return alerts.alert(died)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(tell, letters)) == 1
    assert Alert.objects.get().held_back == 23
    assert len(told()) == len(TASKS)


def test_the_death_of_an_alert_raises_no_alert(letter, told):
    for name in TASKS:
        assert not alerts.alert(letter(task_name=name, fingerprint=name))
    assert told() == []


def test_a_claim_that_could_not_be_published_is_given_back(letter, told, settings, monkeypatch):
    alerts.alert(letter())
    alerts.alert(letter())
    Alert.objects.update(last_sent_at=timezone.now() - timedelta(seconds=301))
    with monkeypatch.context() as broken:
        nobody = current_app.connection_for_write("redis://127.0.0.1:1/0")
        broken.setattr(current_app, "send_task", partial(current_app.send_task, connection=nobody, retry=False))
        assert not alerts.alert(letter())
    assert Alert.objects.get().held_back == 2
    told()
    assert alerts.alert(letter())
    assert [arguments[1] for _, arguments in told()] == [2, 2]


def _later(seconds):
    Alert.objects.update(last_sent_at=timezone.now() - timedelta(seconds=seconds))


def test_the_last_deaths_of_an_error_are_told_of_though_no_other_follows(letter, told):
    for _ in range(49):
        alerts.alert(letter())
    last = letter(died_at=timezone.now() + timedelta(seconds=1))
    alerts.alert(last)
    told()
    assert alerts.catch_up() == 0  # ALERT_EVERY is not over
    _later(301)
    assert alerts.catch_up() == 1
    assert told() == [(name, [last.pk, 48]) for name in TASKS]
    _later(301)
    assert alerts.catch_up() == 0
    assert told() == []


def test_the_only_death_is_told_of_when_the_broker_is_back(letter, told, monkeypatch):
    died = letter(fingerprint="", cause=Cause.UNDECODABLE, task_name="")
    with monkeypatch.context() as broken:
        nobody = current_app.connection_for_write("redis://127.0.0.1:1/0")
        broken.setattr(current_app, "send_task", partial(current_app.send_task, connection=nobody, retry=False))
        assert not alerts.alert(died)
        assert alerts.catch_up() == 0
    assert alerts.catch_up() == 1
    assert told() == [(name, [died.pk, 0]) for name in TASKS]


def test_a_death_whose_announcement_was_lost_with_its_worker_is_told_of(letter, told):
    def seen(ago, **fields):
        died = letter(died_at=timezone.now() - ago, **fields)
        ErrorGroup.objects.filter(pk=died.fingerprint).update(last_seen=died.died_at)
        return died

    lost = seen(timedelta(minutes=3), fingerprint="lost")
    seen(timedelta(seconds=30), fingerprint="on its way")
    seen(timedelta(hours=2), fingerprint="no news")
    seen(timedelta(minutes=3), fingerprint="replayed", state="resolved")
    seen(timedelta(minutes=3), fingerprint="an alert", task_name=TASKS[0])
    known = seen(timedelta(minutes=3), fingerprint="known")
    Alert.objects.create(fingerprint="known", last_sent_at=known.died_at + timedelta(seconds=1))
    again = seen(timedelta(minutes=3), fingerprint="again")
    Alert.objects.create(fingerprint="again", last_sent_at=again.died_at - timedelta(hours=1))
    assert alerts.catch_up() == 2
    assert {tuple(arguments) for _, arguments in told()} == {(lost.pk, 0), (again.pk, 0)}
    assert alerts.catch_up() == 0


def test_of_very_many_errors_at_once_some_are_told_of_and_that_there_are_more(letter, told):
    many = [letter(fingerprint=f"{number:032}") for number in range(60)]
    assert sum(alerts.alert(died) for died in many) == alerts.MOST + 1
    names, arguments = zip(*told(), strict=True)
    assert names.count(TASKS[0]) == names.count(TASKS[1]) == alerts.MOST
    assert names.count(alerts.TELL) == len(TASKS)
    assert arguments[-1][1] == "Many different errors at once"
    assert arguments[-1][3].endswith("/deadletters/deadletter/by-error/")
    assert alerts.catch_up() == 0
    _later(301)
    assert alerts.alert(many[0])
    assert told() == [(name, [many[0].pk, 0]) for name in TASKS]


def test_nobody_is_told_of_what_is_not_open_any_more(letter, told, settings):
    died = letter()
    for _ in range(2):
        alerts.alert(died)
    told()
    type(died).objects.update(state="resolved")
    _later(301)
    assert alerts.catch_up() == 0
    assert Alert.objects.get().held_back == 0
    assert told() == []
    settings.SLACK_WEBHOOK_URL, settings.ADMINS = "", []
    assert alerts.catch_up() == 0


def test_a_letter_without_a_fingerprint_is_grouped_by_its_cause(letter, told):
    assert alerts.alert(letter(fingerprint="", cause=Cause.UNDECODABLE, task_name=""))
    assert not alerts.alert(letter(fingerprint="", cause=Cause.UNDECODABLE, task_name=""))
    assert alerts.alert(letter(fingerprint="", cause=Cause.UNKNOWN_MESSAGE, task_name=""))


def test_the_notice_says_what_died_of_what_and_where_to_look(letter, settings):
    settings.SITE_URL = "https://ops.example.com"
    died = letter(exception_message="first line\nsecond line " + "x" * 1000, cause=Cause.EXCEPTION)
    notice = alerts.notice(died, held_back=7)
    assert notice.subject == "Dead letter: shop.charge"
    error = next(line for line in notice.text.splitlines() if line.startswith("Error: "))
    assert error.startswith("Error: ValueError: first line second line xxx")
    assert len(error) < 220
    assert "Cause: Exception" in notice.text
    assert "7 more died" in notice.text
    assert notice.link.startswith("https://ops.example.com/")


def test_an_error_that_was_resolved_and_is_back_is_told_at_once_and_as_such(letter, told, settings):
    first = letter()
    assert alerts.alert(first)
    assert not alerts.alert(letter())
    ErrorGroup.objects.update(state="regressed", changed_at=timezone.now(), note="see OPS-12")
    assert alerts.alert(letter())
    said = alerts.notice(first)
    assert said.subject == "Regressed: shop.charge"
    assert "This error was resolved, and is back." in said.text
    assert "see OPS-12" in said.text


def test_a_letter_without_a_task_still_makes_a_notice(letter):
    notice = alerts.notice(letter(task_name="", exception_type="", exception_message="", cause=Cause.UNDECODABLE))
    assert notice.subject == "Dead letter: Undecodable"
    assert "Task: unknown" in notice.text


def test_an_alert_about_a_letter_that_was_pruned_meanwhile_is_none(settings, listener, db):
    settings.SLACK_WEBHOOK_URL = listener.url
    alerts.deliver("monitoring.alert_slack", 999_999, 0)
    assert listener.posts == []


def test_slack_gets_the_notice_with_its_control_characters_escaped(settings, listener):
    settings.SLACK_WEBHOOK_URL = listener.url
    slack.send(Notice(subject="Dead letter: a", text="<!channel> & more", link="https://ops/1"))
    path, posted = listener.posts[0]
    assert path == "/services/T/B/secret-part"
    assert posted["text"] == "*Dead letter: a*\n&lt;!channel&gt; &amp; more\n<https://ops/1|Open>"


@pytest.mark.parametrize(
    ("status", "error"), [(429, NotDeliveredYet), (503, NotDeliveredYet), (404, NotDelivered), (302, NotDelivered)]
)
def test_slack_errors_are_told_apart_and_never_name_the_address(settings, listener, status, error):
    settings.SLACK_WEBHOOK_URL, listener.status = listener.url, status
    with pytest.raises(error) as refused:
        slack.send(Notice(subject="a", text="b"))
    assert str(status) in str(refused.value)
    assert "secret-part" not in str(refused.value)


def test_an_absent_slack_is_tried_again_and_a_broken_address_is_not(settings):
    settings.SLACK_WEBHOOK_URL = "http://127.0.0.1:1/secret-part"
    with pytest.raises(NotDeliveredYet, match="ConnectError"):
        slack.send(Notice(subject="a", text="b"))
    for broken in ("hooks.slack.com/secret-part", "ftp://a/secret-part", "http://a:b/secret-part"):
        settings.SLACK_WEBHOOK_URL = broken
        with pytest.raises(NotDelivered) as refused:
            slack.send(Notice(subject="a", text="b"))
        assert "secret-part" not in str(refused.value)


def test_mail_goes_to_all_admins(settings):
    settings.ADMINS = [("a@example.com", "a@example.com"), ("b@example.com", "b@example.com")]
    mail.send(Notice(subject="Dead letter: a", text="text", link="https://ops/1"))
    sent = outbox.outbox[0]
    assert sent.to == ["a@example.com", "b@example.com"]
    assert sent.subject == "[Redeliver] Dead letter: a"
    assert sent.body == "text\n\nhttps://ops/1\n"


def test_an_absent_mail_server_is_tried_again(settings):
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.ADMINS, settings.EMAIL_HOST, settings.EMAIL_PORT = [("a", "a@example.com")], "127.0.0.1", 1
    with pytest.raises(NotDeliveredYet):
        mail.send(Notice(subject="a", text="b"))


def test_one_line_has_no_line_breaks_and_an_end():
    assert one_line(" a\r\n b\t c ") == "a b c"
    assert len(one_line("x" * 10_000_000)) == 200
    assert "\n" not in one_line("a\n" * 500)


@pytest.mark.django_db
def test_a_claim_costs_one_statement(letter, told, django_assert_num_queries):
    died = letter()
    with django_assert_num_queries(1):
        alerts.alert(died)
    told()
