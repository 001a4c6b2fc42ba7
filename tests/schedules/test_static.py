import pytest
from celery import current_app
from celery.schedules import crontab
from django_celery_beat.models import PeriodicTask

from schedules import static
from schedules.models import Schedule

# It closes the connection that it used.
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def settings_with():
    before = current_app.conf.beat_schedule

    def put(**entries):
        current_app.conf.beat_schedule = entries

    yield put
    current_app.conf.beat_schedule = before


def test_an_entry_of_the_settings_is_created_once_and_then_left_alone(settings_with):
    settings_with(
        static={"task": "tests.anything", "schedule": crontab("0", "4"), "args": [1], "options": {"queue": "q"}}
    )
    assert static.install(current_app) == ["static"]
    row = Schedule.objects.get()
    assert (row.cron_line, row.args, row.queue) == ("0 4 * * *", "[1]", "q")
    Schedule.objects.update(enabled=False, args="[2]")
    assert static.install(current_app) == []
    row.refresh_from_db()
    assert (row.enabled, row.args) == (False, "[2]")


def test_an_entry_that_cannot_be_installed_hinders_no_other(settings_with):
    bad = {"task": "tests.anything", "schedule": object()}
    long = {"task": "tests.anything" + "x" * 200, "schedule": 30}  # longer than its column
    settings_with(bad=bad, long=long, good={"task": "tests.anything", "schedule": 30})
    assert static.install(current_app) == ["good"]
    assert PeriodicTask.objects.get().interval.every == 30
