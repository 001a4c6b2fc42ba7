import json
from datetime import timedelta
from urllib.parse import parse_qs
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django_celery_beat.models import ClockedSchedule, CrontabSchedule, IntervalSchedule
from django_celery_results.models import TaskResult

from deadletters.models import DeadLetter
from schedules import edit
from schedules.due import Cron, Every, Once
from schedules.late import is_late, late
from schedules.models import Broken, Occurrence, Policy, Schedule

pytestmark = pytest.mark.django_db

LIST = "/schedules/schedule/"
MANY = 100_000
TASKS = 40


@pytest.fixture
def boss(admin_user, client):
    client.force_login(admin_user)
    return client


@pytest.fixture
def crowd(db):
    """100,000 schedules, of 500 cron lines and one interval; each hundredth is off. All ran just now."""
    every = IntervalSchedule.objects.create(every=10, period="minutes")
    crons = [CrontabSchedule(minute=str(number % 60), hour=str(number // 60), timezone="UTC") for number in range(500)]
    first = CrontabSchedule.objects.bulk_create(crons)[0].pk
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO django_celery_beat_periodictask (name, task, interval_id, crontab_id, args, kwargs, headers, queue, enabled,
                   one_off, last_run_at, total_run_count, date_changed, description)
            SELECT 'Schedule ' || lpad(n::text, 6, '0'), 'crowd.task_' || n %% %s, CASE WHEN n %% 2 = 0 THEN %s END,
                   CASE WHEN n %% 2 = 1 THEN %s + n %% 500 END, '[]', '{}', '{}', CASE WHEN n %% 1000 = 0 THEN 'slow' END, n %% 100 <> 0,
                   false, now(), 1, now(), ''
              FROM generate_series(1, %s) AS n
            """,
            [TASKS, every.pk, first, MANY],
        )
        cursor.execute("ANALYZE django_celery_beat_periodictask")


def asked(boss, **params):
    """(the page, its queries)"""
    with CaptureQueriesContext(
        connection,
    ) as queries:
        response = boss.get(LIST, params)
    assert response.status_code == 200
    return response, [query["sql"] for query in queries]


def rows(response):
    return [row.name for row in response.context["cl"].result_list]


def nodes(plan):
    yield plan
    for part in plan.get("Plans", ()):
        yield from nodes(part)


def scans(sql):
    """(kind of scan, index) of the table of schedules in the plan of a query."""
    with connection.cursor() as cursor:
        cursor.execute("EXPLAIN (FORMAT JSON) " + sql)
        (plan,) = cursor.fetchone()
    plan = plan if isinstance(plan, list) else json.loads(plan)
    return [
        (node["Node Type"], node.get("Index Name", ""))
        for node in nodes(plan[0]["Plan"])
        if node.get("Relation Name") == "django_celery_beat_periodictask"
        or "schedules_by" in node.get("Index Name", "")
    ]


def page_query(queries):
    (sql,) = [sql for sql in queries if "LIMIT 51" in sql]
    return sql


def test_the_list_of_100_000_costs_as_many_queries_as_of_one_and_reads_an_index(boss, crowd):
    response, queries = asked(boss)
    for number, filters in enumerate(
        ({}, {"task": "crowd.task_7"}, {"queue": "slow"}, {"state": "off"}, {"after": "Schedule 099000"})
    ):
        response, queries = asked(boss, **filters)
        assert len(rows(response)) == 50
        assert {kind for kind, _index in scans(page_query(queries))} <= {
            "Index Scan",
            "Index Only Scan",
            "Bitmap Heap Scan",
        }, filters
        number_of_queries = len(queries) if number == 0 else number_of_queries  # noqa: F821
        assert len(queries) == number_of_queries, filters
    page = response.content.decode()
    assert "more than 10,000" in page
    assert 'href="?task=crowd.task_39"' in page.replace("&amp;", "&").replace("?after=Schedule+099000&task", "?task")
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM django_celery_beat_periodictask WHERE name <> 'Schedule 000001'")
    few, queries = asked(boss)
    assert rows(few) == ["Schedule 000001"]
    assert len(queries) <= number_of_queries


def test_pages_lead_to_the_end_and_back_whatever_the_filter(boss, schedule):
    names = [f"S{number:03}" for number in range(120)]
    Schedule.objects.bulk_create(
        Schedule(name=name, task="tests.anything", interval=schedule.interval, queue="q") for name in names
    )
    seen, address = [], {"queue": "q"}
    for _page in range(3):
        response, _queries = asked(boss, **address)
        seen += rows(response)
        address = {name: value for name, (value,) in parse_qs(response.context["cl"].older[1:]).items()}
    assert seen == names
    assert address == {}
    back = parse_qs(response.context["cl"].newer[1:])
    assert back["queue"] == ["q"]
    assert rows(boss.get(LIST, {name: value for name, (value,) in back.items()})) == names[50:100]


def test_tabs_count_and_show_what_is_late_broken_paused_and_off(boss, schedule):
    def one(name, **facts):
        return Schedule.objects.create(name=name, task="tests.anything", interval=schedule.interval, **facts)

    one("Off", enabled=False)
    Broken.objects.create(schedule=one("Bad"), reason="headers must be a JSON object.")
    Policy.objects.create(schedule=one("Held"), paused_at=timezone.now(), pause_reason="audit")
    behind = one("Behind")
    Schedule.objects.filter(pk=behind.pk).update(last_run_at=timezone.now() - timedelta(minutes=30))
    for state, name in {"off": "Off", "broken": "Bad", "paused": "Held", "late": "Behind"}.items():
        response, _queries = asked(boss, state=state)
        assert rows(response) == [name]
        (tab,) = [tab for tab in response.context["tabs"] if tab.current]
        assert (tab.url, str(tab.count)) == (f"?state={state}", "1")
    page = boss.get(LIST).content.decode()
    for chip in (
        'data-state="late">Late',
        'data-state="bad"',
        'data-state="paused"',
        'data-state="off">Off',
        'data-state="on">On',
    ):
        assert chip in page
    assert "headers must be a JSON object." in page


NOW, UTC = timezone.now(), ZoneInfo("UTC")


@pytest.mark.parametrize(
    ("timing", "facts", "expected"),
    [
        (Every.parse(10, "minutes"), {"last": 9}, False),
        (Every.parse(10, "minutes"), {"last": 11}, True),
        (Every.parse(10, "minutes"), {"changed": 11}, True),
        (Every.parse(10, "minutes"), {"changed": 30, "start": 1}, True),
        (Every.parse(10, "minutes"), {"changed": 30, "start": -5}, False),
        (Every.parse(10, "minutes"), {"last": 11, "jitter": 600}, False),
        (Every.parse(10, "minutes"), {"last": 11, "ended": 5}, False),
        (Every.parse(10, "minutes"), {"last": 11, "enabled": False}, False),
        (Every.parse(3650, "days"), {"last": 11}, False),
        (Cron.parse("* * * * *", UTC), {"last": 5}, True),
        (Cron.parse("* * * * *", UTC), {"last": 0}, False),
        (Cron.parse("0 0 29 2 *", UTC), {"last": 60}, False),
        (Cron.parse("0 0 29 2 *", UTC), {"last": 60 * 24 * 366 * 9}, True),
        (Cron.parse("* * * * *", UTC), {"changed": 5}, True),
        (Cron.parse("* * * * *", UTC), {"changed": 5, "start": -60}, False),
        (Once(at=NOW - timedelta(minutes=5)), {"changed": 30}, True),
        (Once(at=NOW - timedelta(minutes=5)), {"last": 5}, False),
        (Once(at=NOW + timedelta(days=1)), {"changed": 30}, False),
    ],
)
def test_what_is_late_is_told_alike_for_one_and_for_all(timing, facts, expected):
    def ago(name):
        return timezone.now() - timedelta(minutes=facts[name]) if name in facts else None

    one = Schedule(name="One", task="tests.anything")
    if isinstance(timing, Once):
        one.clocked, one.one_off = ClockedSchedule.objects.create(clocked_time=timing.at), True
    elif isinstance(timing, Cron):
        minute, hour, day, month, _weekday = timing.fields
        one.crontab = CrontabSchedule.objects.create(
            minute=minute, hour=hour, day_of_month=day, month_of_year=month, timezone="UTC"
        )
    else:
        edit.place(one, timing)
    edit.save(one)
    if "jitter" in facts:
        Policy.objects.create(schedule=one, jitter=facts["jitter"])
    # In one statement with last_run_at, so that the trigger does not take it for an edit.
    Schedule.objects.filter(pk=one.pk).update(start_time=ago("start"))
    Schedule.objects.filter(pk=one.pk).update(
        last_run_at=ago("last"),
        date_changed=ago("changed") or timezone.now(),
        expires=ago("ended"),
        enabled=facts.get("enabled", True),
    )
    saved = Schedule.objects.get()
    assert late(Schedule.objects.all()).exists() is expected
    if saved.enabled:
        assert is_late(saved) is expected


def happened(schedule, status, *, minutes, took=2, state="sent", **facts):
    """An occurrence so many minutes ago, with its result."""
    due = timezone.now() - timedelta(minutes=minutes)
    known = {"sent_at": due if state == "sent" else None, **facts}
    one = Occurrence.objects.create(
        id=uuid4(), schedule_id=schedule.pk, name=schedule.name, due_at=due, state=state, **known
    )
    if status:
        result = TaskResult.objects.create(task_id=str(one.id), status=status, date_started=due)
        TaskResult.objects.filter(pk=result.pk).update(date_done=due + timedelta(seconds=took))
    return one


def test_a_row_shows_its_last_run_with_links_its_last_14_outcomes_and_how_long_they_take(boss, schedule):
    happened(schedule, "SUCCESS", minutes=99, took=900)  # the fifteenth
    for number in range(11):
        happened(schedule, "SUCCESS", minutes=40 + number, took=4)
    happened(schedule, None, minutes=30, state="skipped", reason="The run before is still alive.")
    happened(schedule, "SUCCESS", minutes=20, took=8)
    dead = happened(schedule, "FAILURE", minutes=10, took=60)
    letter = DeadLetter.objects.create(
        task_id=str(dead.id), task_name=schedule.task, died_at=timezone.now(), body=b"", headers={}, properties={}
    )
    page = boss.get(LIST).content.decode()
    assert "Last runs: 12 succeeded, 1 failed, 1 skipped" in page
    assert page.count("<i data-mark=") == 14
    assert "The run before is still alive." in page
    result = TaskResult.objects.get(task_id=str(dead.id))
    assert f'href="/django_celery_results/taskresult/{result.pk}/change/"' in page
    assert f'href="/deadletters/deadletter/{letter.pk}/change/"' in page
    assert "takes 8.6 s" in page  # (11 × 4 + 8 + 60) / 13


def test_the_dead_letter_is_no_link_for_those_who_may_not_see_it(client, staff, schedule):
    dead = happened(schedule, "FAILURE", minutes=10)
    DeadLetter.objects.create(
        task_id=str(dead.id), task_name=schedule.task, died_at=timezone.now(), body=b"", headers={}, properties={}
    )
    client.force_login(staff("view_schedule"))
    page = client.get(LIST).content.decode()
    assert "Failed" in page
    assert "Dead letter</a>" not in page
    assert "taskresult" not in page


def test_a_project_without_letters_has_a_list_too(boss, schedule, settings):
    del settings.SCHEDULES_LETTER_URLS
    happened(schedule, "FAILURE", minutes=10)
    assert "Failed" in boss.get(LIST).content.decode()


def test_the_page_of_a_schedule_shows_each_occurrence_with_its_reason(boss, schedule):
    happened(
        schedule, "SUCCESS", minutes=50, sent_at=timezone.now() - timedelta(minutes=48), reason="Caught up.", folded=3
    )
    happened(schedule, None, minutes=40, state="skipped", reason="The run before is still alive.")
    happened(schedule, None, minutes=30, state="missed", reason="Later than the grace time.")
    happened(schedule, None, minutes=20, state="refused", reason="args is not JSON.")
    happened(schedule, "STARTED", minutes=10, by="ana", reason="Run now")
    page = boss.get(f"{LIST}{schedule.pk}/change/").content.decode()
    for said in (
        "Caught up.",
        "2 m late",
        "Stands for 3 earlier ones",
        "Skipped",
        "still alive",
        "Missed",
        "grace time",
        "Refused",
        "is not JSON",
        "Running",
        "by ana",
    ):
        assert said in page


def test_older_occurrences_are_a_page_further(boss, schedule):
    for number in range(40):
        happened(schedule, None, minutes=number + 1)
    first = boss.get(f"{LIST}{schedule.pk}/change/")
    assert len(first.context["occurrences"]) == 30
    href = first.content.decode().split('rel="next"')[0].rsplit('href="', 1)[1].split('"')[0]
    older = boss.get(f"{LIST}{schedule.pk}/change/{href}")
    assert len(older.context["occurrences"]) == 10
    assert "Newest" in older.content.decode()
