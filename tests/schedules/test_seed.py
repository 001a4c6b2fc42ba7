import json
import threading

import pytest
from django.db import connections
from django_celery_beat.models import CrontabSchedule

from schedules.models import Schedule
from schedules.seed import SEEDS, seed
from tests.processes import manage

pytestmark = pytest.mark.django_db(transaction=True)
NAMES = [one.name for one in SEEDS]


def test_the_default_schedules_are_created_once():
    assert seed() == NAMES
    assert seed() == []
    assert Schedule.objects.filter(name__in=NAMES).count() == len(SEEDS)


def test_a_default_schedule_is_left_as_an_operator_made_it():
    seed()
    Schedule.objects.filter(name="Daily report").update(enabled=False, task="tests.echo")
    seed()
    daily = Schedule.objects.get(name="Daily report")
    assert (daily.enabled, daily.task) == (False, "tests.echo")


def test_one_that_is_missing_comes_back():
    seed()
    Schedule.objects.get(name="Heartbeat").delete()
    assert seed() == ["Heartbeat"]


def test_two_seeders_at_once_create_each_schedule_once():
    created, start = [], threading.Barrier(2)

    def run():
        start.wait()
        created.extend(seed())
        connections.close_all()

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(created) == sorted(NAMES)
    assert CrontabSchedule.objects.filter(minute="0", hour="9", day_of_week="*").count() == 1


def test_the_default_schedules_run_at_their_times_in_celerys_zone():
    seed()
    words = {one.name: (one.words, str(one.zone), one.enabled, one.problem) for one in Schedule.objects.all()}
    assert words["Heartbeat"] == ("Every 60 seconds", "Asia/Tokyo", True, "")
    assert words["Hourly self-test"][0] == "Every hour"
    assert words["Daily report"][0] == "Every day at 09:00"
    assert words["Weekday digest"][0] == "At 09:00, Monday through Friday"
    assert words["Monthly clean-up"][0] == "At 00:00, on day 1 of the month"
    assert words["Example with arguments"] == ("Every 30 seconds", "Asia/Tokyo", False, "")
    example = Schedule.objects.get(name="Example with arguments")
    assert (json.loads(example.args), json.loads(example.kwargs)) == (["arg1", "arg2"], {"key": "value"})


def test_the_command_says_what_it_created_and_what_was_there():
    first, second = manage("seed_schedules", "--json"), manage("seed_schedules", "--json")
    assert (first.returncode, json.loads(first.stdout)) == (0, {"created": NAMES, "existing": []}), first.stderr
    assert json.loads(second.stdout) == {"created": [], "existing": NAMES}
    assert "already there: Heartbeat" in manage("seed_schedules").stdout


def test_the_command_uses_the_zone_of_the_environment():
    assert manage("seed_schedules", CELERY_TIMEZONE="Europe/Berlin").returncode == 0
    assert str(Schedule.objects.get(name="Daily report").crontab.timezone) == "Europe/Berlin"


def test_a_wrong_option_is_wrong_usage():
    assert manage("seed_schedules", "--what").returncode == 2
