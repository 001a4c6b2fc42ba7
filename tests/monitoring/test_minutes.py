"""Each minute is counted once, when it is over, and figures are sums of minutes."""

import uuid
from datetime import timedelta

import pytest
import time_machine
from django.db import connection
from django.db.models import F
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django_celery_results.models import TaskResult

from monitoring import dashboard, minutes
from monitoring.models import Minute

pytestmark = pytest.mark.django_db

NOW = timezone.now().replace(second=30, microsecond=0)


@pytest.fixture(autouse=True)
def now(db):
    Minute.objects.all().delete()  # a browser of another test may have asked for a page when its test was over
    with time_machine.travel(NOW, tick=False):
        yield


def result(ago, status="SUCCESS", ran=2):
    done = NOW - ago
    row = TaskResult.objects.create(
        task_id=str(uuid.uuid4()), status=status, date_started=done - timedelta(seconds=ran)
    )
    TaskResult.objects.filter(pk=row.pk).update(date_done=done)
    return row


def total(width=timedelta(minutes=30)):
    first = NOW.replace(second=0) - timedelta(hours=24)
    read = minutes.bins(first, width, int(timedelta(hours=25) / width), open_=minutes.under_way(NOW))
    return sum(bin_.succeeded for bin_ in read), sum(bin_.failed for bin_ in read), sum(bin_.busy for bin_ in read)


def test_what_was_counted_and_what_is_under_way_add_up(letter):
    for ago in (timedelta(seconds=5), timedelta(minutes=1), timedelta(minutes=4), timedelta(hours=3)):
        result(ago)
        result(ago, "FAILURE")
    result(timedelta(minutes=1), "RETRY")
    letter(died_at=NOW - timedelta(hours=3))
    assert minutes.close()
    assert total() == (4, 4, 16)
    assert total(timedelta(minutes=1)) == (4, 4, 16)
    row = Minute.objects.get(at=(NOW - timedelta(hours=3)).replace(second=0))
    assert (row.succeeded, row.failed, row.died) == (1, 1, 1)


def test_a_closed_minute_keeps_what_it_counted():
    row = result(timedelta(hours=1), "FAILURE")
    minutes.close()
    TaskResult.objects.filter(pk=row.pk).update(status="SUCCESS", date_done=NOW)  # a replay
    minutes.close()
    assert total()[:2] == (1, 1)


def test_counting_twice_changes_nothing_and_slices_reach_the_end():
    result(timedelta(days=2))
    result(timedelta(minutes=10))
    assert not minutes.close(at_most=timedelta(hours=1))
    assert minutes.close_all(30)
    before = list(Minute.objects.values_list("at", "succeeded"))
    assert len(before) == 7 * 24 * 60 - 2
    minutes.close()
    assert list(Minute.objects.values_list("at", "succeeded")) == before
    assert sum(succeeded for _at, succeeded in before) == 2


def test_a_machine_whose_clock_is_ahead_closes_no_minute_that_is_not_over():
    result(timedelta(minutes=10))
    with time_machine.travel(NOW + timedelta(hours=3), tick=False):
        assert minutes.close()
    # PostgreSQL's clock is the judge. Here it may be ahead, too, of the moment at which this file was read.
    assert Minute.objects.annotate(now=Now()).filter(at__gt=F("now")).count() == 0
    assert total()[:2] == (1, 0)


def test_a_sample_of_an_open_minute_is_not_taken_for_a_count():
    result(timedelta(minutes=3))
    minutes.sample(open=7, waiting=3, workers=None)
    assert minutes.close()
    assert total()[0] == 1
    minutes.sample(open=9, waiting=3, workers=2)
    assert minutes.samples(NOW - timedelta(days=1)) == {"open": [9], "waiting": [3], "workers": [2]}


def test_many_samples_become_few_points_that_keep_the_peaks():
    Minute.objects.bulk_create(Minute(at=NOW - timedelta(minutes=n), open=99 if n == 700 else 1) for n in range(1440))
    points = minutes.samples(NOW - timedelta(days=1))["open"]
    assert len(points) <= 48
    assert max(points) == 99


def test_the_figures_read_no_result_that_was_counted():
    result(timedelta(hours=5))
    minutes.close()
    with CaptureQueriesContext(connection) as asked:
        dashboard.rates(NOW, minutes.under_way(NOW))
    plans = [query["sql"] for query in asked if "taskresult" in query["sql"]]
    since = (NOW - timedelta(minutes=2)).replace(second=0).isoformat(sep=" ")[:16]
    assert plans
    assert all(since in sql for sql in plans)


def test_old_minutes_go():
    Minute.objects.create(at=NOW - timedelta(days=36))
    Minute.objects.create(at=NOW - timedelta(days=34))
    assert minutes.prune() == 1
