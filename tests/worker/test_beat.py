"""A real beat and a real worker: what is saved in the console happens."""

import json
import signal
import time
from contextlib import closing
from datetime import timedelta
from itertools import pairwise

import pytest
from celery import current_app
from django.db import connection
from django.utils import timezone
from django_celery_beat.models import ClockedSchedule, CrontabSchedule, IntervalSchedule, PeriodicTasks, SolarSchedule
from django_celery_results.models import TaskResult

from config.embedded import Redis, free_port, new_password
from schedules import edit
from schedules.decide import TOLERANCE
from schedules.due import Every, Once
from schedules.history import Broken, Occurrence
from schedules.models import Policy, Schedule
from schedules.run_now import run_now
from schedules.seed import seed
from tests.processes import Process, eventually

pytestmark = [pytest.mark.worker, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def beat(folder):
    """Starts beats, and stops them."""
    started = []

    def start(**extra):
        log = folder / f"beat-{len(started)}.log"
        process = Process("-m", "celery", "-A", "config", "beat", "--loglevel", "INFO", log=log, **extra)
        started.append(process)
        process.wait_for("beat: Starting")
        return process

    yield start
    for process in started:
        process.stop()


def every_second(name, *args, task="tests.anything", **columns):
    schedule = Schedule(name=name, task=task, args=json.dumps(args), **columns)
    edit.place(schedule, Every.parse(1, "seconds"))
    edit.save(schedule)
    return schedule


def results(name):
    return TaskResult.objects.filter(periodic_task_name=name, status="SUCCESS")


def ticks(name, more):
    """Waits until `name` has run that many times more: beat's own clock, however slow the machine."""
    before = results(name).count()
    eventually(lambda: results(name).count() >= before + more, what=f"{more} more runs of {name}")


@pytest.fixture
def form():
    return {
        "name": "Edited", "task": "tests.anything", "kind": "every", "every": "1", "period": "seconds", "cron": "", "at": "",
        "timezone": "Asia/Tokyo", "args": '["first"]', "kwargs": "{}", "headers": "{}", "start": "", "queue": "", "priority": "",
        "expire_seconds": "", "description": "", "enabled": "on",
    }  # fmt: skip


def test_what_is_done_in_the_console_takes_effect(worker, beat, client, admin_user, form):
    client.force_login(admin_user)
    every_second("Clock")
    beat()
    ticks("Clock", 1)

    client.post("/schedules/schedule/add/", form)
    eventually(lambda: results("Edited").filter(result__contains="first").exists(), what="the new schedule runs")
    edited = Schedule.objects.get(name="Edited")
    client.post(f"/schedules/schedule/{edited.pk}/change/", form | {"args": '["second"]'})
    eventually(lambda: results("Edited").filter(result__contains="second").exists(), what="its new arguments are sent")

    client.post(f"/schedules/schedule/{edited.pk}/disable/")
    ticks("Clock", 4)
    while_off = results("Edited").count()
    ticks("Clock", 3)
    assert results("Edited").count() == while_off

    client.post(f"/schedules/schedule/{edited.pk}/enable/")
    ticks("Edited", 2)
    client.post(f"/schedules/schedule/{edited.pk}/change/", form | {"every": "1", "period": "hours"})
    ticks("Clock", 4)
    when_slower = results("Edited").count()
    ticks("Clock", 3)
    assert results("Edited").count() == when_slower

    client.post(f"/schedules/schedule/{edited.pk}/change/", form)
    ticks("Edited", 1)
    client.post(f"/schedules/schedule/{edited.pk}/delete/", {"post": "yes"})
    ticks("Clock", 4)
    when_deleted = results("Edited").count()
    ticks("Clock", 3)
    assert results("Edited").count() == when_deleted


def test_rows_that_cannot_run_are_named_and_stop_nobody(worker, beat):
    second = IntervalSchedule.objects.create(every=1, period="seconds")
    bad = {
        "broken args": {"args": "[1", "interval": second},
        "args of another type": {"args": "5", "interval": second},
        "headers of another type": {"headers": "[]", "interval": second},
        "no time": {},
        "31 February": {"crontab": CrontabSchedule.objects.create(day_of_month="31", month_of_year="2")},
        "weekday 7": {"crontab": CrontabSchedule.objects.create(day_of_week="7")},
        "an event that the sun has not": {"solar": SolarSchedule.objects.create(event="tea", latitude=1, longitude=1)},
        "arguments that do not fit": {"task": "monitoring.heartbeat", "args": "[1, 2, 3]", "interval": second},
        "a billion days": {"interval": IntervalSchedule.objects.create(every=10**9, period="days")},
        "a flood": {"interval": IntervalSchedule.objects.create(every=1, period="microseconds")},
        "NUL in a reason": {"task": "monitoring.heartbeat", "kwargs": r'{"a\u0000": 1}', "interval": second},
        "half a character": {"task": "monitoring.heartbeat", "kwargs": r'{"a\ud800": 1}', "interval": second},
        "the end of time": {"clocked": ClockedSchedule.objects.create(clocked_time=timezone.now())},
        "a start after it": {"crontab": CrontabSchedule.objects.create(minute="1")},
        "a start just before it": {"crontab": CrontabSchedule.objects.create(minute="0")},
    }
    # Behind the models' backs, as fixtures and other programs do.
    Schedule.objects.bulk_create(
        [Schedule(name=name, **{"task": "tests.anything", **columns}) for name, columns in bad.items()]
    )
    every_second("Good")
    every_second("Good for ever")
    with connection.cursor() as cursor:  # what PostgreSQL stores, and Python has no word for
        cursor.execute("UPDATE django_celery_beat_clockedschedule SET clocked_time = '10000-01-01'")
        for name, facts in {
            "a start after it": "start_time = 'infinity'",
            "a start just before it": "start_time = '9999-01-01'",
            "Good for ever": "expires = 'infinity'",
        }.items():
            cursor.execute(f"UPDATE django_celery_beat_periodictask SET {facts} WHERE name = %s", [name])
    process = beat()
    ticks("Good", 3)
    ticks("Good for ever", 1)
    eventually(lambda: Broken.objects.count() == len(bad), what="each is marked as broken")
    reasons = dict(Broken.objects.values_list("schedule__name", "reason"))
    assert "JSON" in reasons["broken args"]
    assert "array" in reasons["args of another type"]
    assert "no time" in reasons["no time"]
    assert "never run" in reasons["31 February"]
    assert "Sunday" in reasons["weekday 7"]
    assert "does not take" in reasons["arguments that do not fit"]
    assert "at most ten years" in reasons["a billion days"]
    assert "schedules.failed" not in process.output
    assert process.alive
    assert Schedule.objects.filter(name__in=bad, enabled=True).count() == len(bad)
    assert not TaskResult.objects.filter(periodic_task_name__in=bad).exists()
    # Mended behind the models' backs, too.
    Schedule.objects.filter(name="broken args").update(args="[]")
    ticks("broken args", 1)
    assert not Broken.objects.filter(schedule__name="broken args").exists()


def test_the_seeded_example_gets_its_arguments(worker, beat):
    seed()
    example = Schedule.objects.get(name="Example with arguments")
    edit.place(example, Every.parse(1, "seconds"))
    example.enabled = True
    edit.save(example)
    beat()
    ticks("Example with arguments", 1)
    sent = json.loads(results("Example with arguments").first().result)
    assert sent == {"args": ["arg1", "arg2"], "kwargs": {"key": "value"}}


def test_what_falls_due_while_postgresql_is_away_is_sent_at_its_return_and_edits_are_noticed(worker, beat):
    every_second("Clock")
    with connection.cursor() as cursor:
        cursor.execute("CREATE ROLE beat SUPERUSER LOGIN PASSWORD 'beat'")
        try:
            where = connection.settings_dict
            process = beat(DATABASE_URL=f"postgres://beat:beat@{where['HOST']}:{where['PORT']}/{where['NAME']}")
            ticks("Clock", 1)
            cursor.execute("ALTER ROLE beat NOLOGIN")
            cursor.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'beat'")
            process.wait_for("schedules.database_away")
            every_second("New")
            time.sleep(3)
            cursor.execute("ALTER ROLE beat LOGIN")
            process.wait_for("schedules.database_back")
            ticks("New", 1)
            ticks("Clock", 1)
            assert process.alive
            process.stop()
        finally:
            cursor.execute("DROP ROLE beat")
    due = Occurrence.objects.filter(name="Clock", state="sent").order_by("due_at").values_list("due_at", flat=True)
    assert {round((after - before).total_seconds()) for before, after in pairwise(due)} == {1}


def test_beat_may_start_before_postgresql(worker, beat):
    every_second("Clock")
    with connection.cursor() as cursor:
        cursor.execute("CREATE ROLE beat SUPERUSER NOLOGIN PASSWORD 'beat'")
        try:
            where = connection.settings_dict
            process = beat(DATABASE_URL=f"postgres://beat:beat@{where['HOST']}:{where['PORT']}/{where['NAME']}")
            process.wait_for("schedules.database_away")
            cursor.execute("ALTER ROLE beat LOGIN")
            ticks("Clock", 1)
            process.stop()
        finally:
            cursor.execute("DROP ROLE beat")


def test_a_time_without_a_broker_is_an_outage_as_any_other(beat, folder):
    """What was claimed when it went away is sent once at its return, and what fell due meanwhile as policies say."""
    redis = Redis(folder / "redis", port=free_port(), password=new_password())
    redis.start()
    try:
        every_second("Clock", queue="clock")
        graceful = every_second("In time only", queue="clock")
        Policy.objects.create(schedule=graceful, missed="all", catch_up_limit=1000, grace=2)
        process = beat(BROKER_URL=redis.url)
        process.wait_for("schedule.sent schedule=Clock")
        redis.stop()
        once = Schedule(name="Once", task="tests.anything")
        edit.place(once, Once(at=timezone.now()))
        edit.save(once)
        process.wait_for("schedules.broker_away")
        time.sleep(TOLERANCE + 3)  # no shorter outage is one
        assert Occurrence.objects.filter(state="claimed").count() <= 3 * 2  # of each, those of the batch that failed
        redis.start()
        process.wait_for("schedule.sent schedule=Once")
        eventually(lambda: Occurrence.objects.filter(state="claimed").count() == 0, what="all of them are sent")
        eventually(
            lambda: Occurrence.objects.filter(name="Clock", folded__gt=0).exists(), what="the newest stands for all"
        )
        eventually(
            lambda: Occurrence.objects.filter(name="In time only", state="missed").exists(), what="others are late"
        )
        process.stop()
        clock = list(Occurrence.objects.filter(name="Clock").order_by("due_at"))
        assert {one.state for one in clock} <= {"sent", "claimed"}
        assert sum(1 for one in clock if one.folded) == 1
        for before, after in pairwise(clock):
            assert round((after.due_at - before.due_at).total_seconds()) == 1 + after.folded
        assert process.output.count("schedule.sent schedule=Once") == 1
        with current_app.connection_for_read(redis.url) as broker, closing(broker.SimpleQueue("default")) as queue:
            assert queue.get(timeout=30).headers["periodic_task_name"] == "Once"
    finally:
        redis.stop()


def test_what_was_sent_is_noted_at_once_so_a_killed_beat_does_not_repeat_it(worker, beat):
    every_second("Clock")
    hourly = Schedule(name="Hourly", task="tests.anything")
    edit.place(hourly, Every.parse(1, "hours"))
    edit.save(hourly)
    Schedule.objects.filter(pk=hourly.pk).update(last_run_at=timezone.now() - timedelta(hours=3))
    PeriodicTasks.update_changed()
    first = beat()
    eventually(results("Hourly").exists)
    first.stop(signal.SIGKILL)
    beat()
    ticks("Clock", 3)
    assert results("Hourly").count() == 1
    assert Schedule.objects.get(name="Hourly").total_run_count == 1
    occurrence = Occurrence.objects.get(name="Hourly")
    assert (occurrence.state, occurrence.folded) == ("sent", 2)
    assert occurrence.reason


def test_run_now_sends_what_beat_sends(beat, admin_user):
    schedule = every_second(
        "Twice",
        1,
        task="monitoring.echo",
        queue="twice",
        priority=3,
        expire_seconds=600,
        headers='{"tenant": "blue"}',
        kwargs='{"key": "value"}',
    )
    run_now(schedule, by=admin_user)
    process = beat()
    with current_app.connection_for_read() as broker:
        queue = broker.SimpleQueue("twice")
        by_hand, by_beat = (queue.get(timeout=60) for _ in range(2))
        process.stop()
        queue.clear()
        queue.close()
    for message in (by_hand, by_beat):
        assert message.headers.pop("expires")
        message.headers.pop("celery_beat_task", None)
        for unique in ("id", "root_id", "origin", "occurrence_copy", "sent_at"):
            message.headers.pop(unique, None)
    assert by_hand.headers == by_beat.headers
    assert by_hand.headers["periodic_task_name"] == "Twice"
    assert by_hand.headers["tenant"] == "blue"
    assert by_hand.payload == by_beat.payload
    assert by_hand.properties["priority"] == by_beat.properties["priority"] == 3
    assert by_hand.delivery_info["routing_key"] == by_beat.delivery_info["routing_key"] == "twice"


def test_run_now_from_the_console_runs_once_and_leaves_the_times_alone(worker, client, admin_user):
    from django.contrib.admin.models import LogEntry

    schedule = Schedule(name="Rare", task="tests.total", args="[1, 2]", enabled=False)
    edit.place(schedule, Every.parse(100, "days"))
    edit.save(schedule)
    client.force_login(admin_user)
    client.post(f"/schedules/schedule/{schedule.pk}/run/")
    result = eventually(lambda: results("Rare").first())
    assert json.loads(result.result) == 3
    assert json.loads(LogEntry.objects.get().change_message)[0]["act"] == ["act_run", {"task": result.task_id}]
    after = Schedule.objects.get(pk=schedule.pk)
    assert (after.last_run_at, after.total_run_count) == (None, 0)
