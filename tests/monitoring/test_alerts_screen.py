"""What was sent to whom, what did not arrive, and what is held back."""

import pytest
from celery.exceptions import SoftTimeLimitExceeded
from django.contrib.auth.models import Permission
from django.core import mail
from django.core.mail.backends.base import BaseEmailBackend
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from config.embedded import free_port
from deadletters.console.names import breakable
from deadletters.models import Cause
from monitoring import alerts, deliveries, watchdog
from monitoring.models import Alert, Delivery
from monitoring.notice import NotDelivered, NotDeliveredYet, Notice

pytestmark = pytest.mark.django_db

LIST = "/monitoring/delivery/"
NOTICE = Notice(subject="Dead letter: shop.charge", text="…")


@pytest.fixture
def boss(client, admin_user):
    client.force_login(admin_user)
    return client


class SlowBackend(BaseEmailBackend):
    """A mail server that drips until Celery loses its patience."""

    def send_messages(self, email_messages):  # noqa: ARG002  (Django's signature)
        raise SoftTimeLimitExceeded


class BrokenBackend(BaseEmailBackend):
    def send_messages(self, email_messages):  # noqa: ARG002  (Django's signature)
        raise LookupError("smtp://user:secret-part@mail.example.com")


@pytest.mark.parametrize(
    ("backend", "raised", "outcome"), [(SlowBackend, NotDeliveredYet, "late"), (BrokenBackend, LookupError, "refused")]
)
def test_what_failed_in_a_way_that_no_channel_knows_was_not_sent(settings, backend, raised, outcome):
    settings.ADMINS = [("ana", "ana@example.com")]
    settings.EMAIL_BACKEND = f"{__name__}.{backend.__name__}"
    with pytest.raises(raised):
        deliveries.send("mail", NOTICE)
    told = Delivery.objects.get()
    assert told.outcome == outcome
    assert told.problem
    assert "secret-part" not in told.problem


def test_each_notice_leaves_a_line_that_says_what_came_of_it(settings, letter, boss):
    settings.ADMINS = [("ana", "ana@example.com")]
    died = letter()
    alerts.deliver("monitoring.alert_mail", died.pk, 4)
    settings.SLACK_WEBHOOK_URL = f"http://127.0.0.1:{free_port()}/services/secret-part"
    with pytest.raises(NotDeliveredYet):
        deliveries.send("slack", NOTICE)
    settings.SLACK_WEBHOOK_URL = "slack.example.com/secret-part"
    with pytest.raises(NotDelivered):
        deliveries.send("slack", NOTICE)
    assert len(mail.outbox) == 1
    sent, late, refused = Delivery.objects.order_by("id")
    assert (sent.outcome, sent.recipients, sent.held_back, sent.dead_letter_id) == (
        "sent",
        "ana@example.com",
        4,
        died.pk,
    )
    assert (late.outcome, late.recipients, late.problem) == (
        "late",
        "127.0.0.1",
        "Slack cannot be reached: ConnectError.",
    )
    assert refused.outcome == "refused"
    page = boss.get(LIST).content.decode()
    for words in (
        "ana@example.com",
        "Slack cannot be reached",
        "Not reached",
        "Refused",
        f"/deadletters/deadletter/{died.pk}/",
    ):
        assert words in page
    assert "secret-part" not in page
    assert "Not reached" in boss.get(f"{LIST}?outcome=late").content.decode()


def test_what_is_held_back_is_told_with_its_error(boss, letter):
    letter(fingerprint="f" * 32, exception_type="ReadTimeout")
    Alert.objects.create(fingerprint="f" * 32, last_sent_at=timezone.now(), held_back=1234)
    Alert.objects.create(fingerprint="e" * 32, last_sent_at=timezone.now(), held_back=0)
    page = boss.get(LIST).content.decode()
    assert "1,234" in page
    assert breakable("ReadTimeout") in page
    assert "e" * 32 not in page


def test_what_is_held_back_are_deaths_and_leads_to_their_letters(settings, letter, boss):
    settings.ADMINS = [("ana", "ana@example.com")]
    died = letter(fingerprint="", cause=Cause.UNDECODABLE, exception_type="", task_name="")
    Alert.objects.create(fingerprint="undecodable", last_sent_at=timezone.now(), held_back=0)
    assert not alerts.alert(died)
    # What is told of again and again is no death of anything.
    Alert.objects.create(fingerprint=watchdog.KEY, last_sent_at=timezone.now(), held_back=0)
    assert not alerts.tell(watchdog.KEY, NOTICE)
    page = boss.get(LIST).text
    assert watchdog.KEY not in page
    link = "/deadletters/deadletter/?state=all&amp;cause=undecodable"
    assert f'href="{link}">Undecodable</a>' in page
    assert boss.get(link.replace("&amp;", "&")).context["cl"].result_count == 1


def test_the_empty_screen_says_what_to_do(boss, settings):
    settings.ADMINS, settings.SLACK_WEBHOOK_URL = [], ""
    page = boss.get(LIST).content.decode()
    assert "set SLACK_WEBHOOK_URL or ADMINS" in page
    assert "No alert was sent" in page


def test_a_thousand_lines_cost_as_many_queries_as_sixty(boss):
    def asked():
        with CaptureQueriesContext(connection) as captured:
            assert boss.get(LIST).status_code == 200
        return len(captured)

    def fill(number):
        now = timezone.now()
        Delivery.objects.bulk_create(
            Delivery(at=now, channel="mail", subject=f"s{n}", outcome="sent") for n in range(number)
        )

    fill(60)  # more than a page
    asked()
    few = asked()
    fill(1000)
    assert asked() == few


def test_who_may_not_see_letters_does_not_see_their_errors(client, letter, django_user_model):
    letter(fingerprint="f" * 32, exception_type="SecretError")
    Alert.objects.create(fingerprint="f" * 32, last_sent_at=timezone.now(), held_back=3)
    clerk = django_user_model.objects.create_user("clerk", is_staff=True)
    client.force_login(clerk)
    assert client.get(LIST).status_code == 403
    clerk.user_permissions.add(Permission.objects.get(codename="view_delivery"))
    page = client.get(LIST)
    assert page.status_code == 200
    assert "SecretError" not in page.content.decode()


def test_old_lines_go(boss):
    now = timezone.now()
    for age in (deliveries.KEPT * 2, deliveries.KEPT / 2):
        Delivery.objects.create(at=now - age, channel="mail", subject="s", outcome="sent")
        Alert.objects.create(fingerprint=str(age), last_sent_at=now - age)
    assert deliveries.prune() == 2
    assert (Delivery.objects.count(), Alert.objects.count()) == (1, 1)
