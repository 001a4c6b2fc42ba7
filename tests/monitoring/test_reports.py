import uuid
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from django.core import mail as outbox
from django.utils import timezone
from django_celery_results.models import TaskResult

from deadletters.models import State
from monitoring import reports
from pipelines.models import Run

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def ana(settings):
    settings.ADMINS = [("ana@example.com", "ana@example.com")]


def result(done, status="SUCCESS", seconds=1.0, name="shop.charge"):
    row = TaskResult.objects.create(task_id=str(uuid.uuid4()), status=status, task_name=name)
    TaskResult.objects.filter(pk=row.pk).update(date_done=done, date_started=done - timedelta(seconds=seconds))


def test_the_daily_report_tells_yesterday_in_the_platform_s_zone(settings, letter):
    settings.TIME_ZONE, tokyo = "Asia/Tokyo", ZoneInfo("Asia/Tokyo")
    day = date(2026, 11, 22)
    noon = datetime(2026, 11, 22, 12, tzinfo=tokyo)
    for done in (noon, datetime(2026, 11, 22, 0, 0, tzinfo=tokyo), datetime(2026, 11, 22, 23, 59, 59, tzinfo=tokyo)):
        result(done)
    result(noon, seconds=90, name="shop.slow")
    result(noon, "FAILURE")
    result(datetime(2026, 11, 21, 23, 59, 59, tzinfo=tokyo))
    result(datetime(2026, 11, 23, 0, 0, tzinfo=tokyo))
    letter(died_at=noon)
    run = Run.objects.create(pipeline="images", tree={"kind": "task"}, result_id="1")
    Run.objects.filter(pk=run.pk).update(created_at=noon)
    figures = reports.daily(day)
    assert (figures["day"], figures["runs"], figures["succeeded"], figures["failed"]) == ("2026-11-22", 1, 4, 1)
    assert figures["failures"] == [{"task": "shop.charge", "error": "ValueError", "deaths": 1}]
    assert figures["slowest"][0] == {
        "task": "shop.slow", "runs": 1, "average_seconds": 90.0, "longest_seconds": 90.0,
    }  # fmt: skip
    sent = outbox.outbox[0]
    assert sent.subject == "[Redeliver] Daily report of 2026-11-22"
    assert "Tasks: 4 succeeded, 1 failed" in sent.body
    assert "shop.slow" in sent.body


def test_the_report_is_of_yesterday_unless_a_day_is_given(settings):
    settings.TIME_ZONE = "Pacific/Kiritimati"
    yesterday = timezone.now().astimezone(ZoneInfo("Pacific/Kiritimati")).date() - timedelta(days=1)
    assert reports.daily()["day"] == yesterday.isoformat()


def test_without_admins_the_figures_are_returned_and_nothing_is_mailed(settings, letter):
    settings.ADMINS = []
    letter()
    assert reports.daily()["open"] == 1
    assert reports.digest()["open"] == 1
    assert outbox.outbox == []


def test_the_digest_groups_open_letters_by_error(letter):
    for _ in range(3):
        letter(fingerprint="a", exception_message="no\nsuch card")
    letter(fingerprint="b", exception_type="", exception_message="", task_name="")
    letter(state=State.DISCARDED)
    figures = reports.digest()
    assert figures["open"] == 4
    assert figures["errors"][0] == {"open": 3, "task": "shop.charge", "error": "ValueError: no such card"}
    assert figures["errors"][1] == {"open": 1, "task": "", "error": "Exception"}
    assert outbox.outbox[0].subject == "[Redeliver] 4 open dead letters"


def test_a_digest_of_nothing_is_not_mailed():
    assert reports.digest() == {"open": 0, "errors": []}
    assert outbox.outbox == []
