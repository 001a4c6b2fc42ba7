"""What all screens of the console have in common."""

import re
import uuid
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from django.utils import timezone
from django_celery_beat.models import IntervalSchedule, PeriodicTask
from django_celery_results.models import TaskResult

from deadletters.redrive import redrive
from deadletters.selection import Selection
from pipelines.models import Run
from tests.deadletters.letters import letter

pytestmark = pytest.mark.django_db


def test_the_breadcrumbs_of_each_screen_lead_home_over_pages_that_are_there(client, admin_user):
    client.force_login(admin_user)
    dead = letter(task_name="tests.echo", body=b'[[1], {}, {"chain": null}]')
    result = TaskResult.objects.create(task_id=str(uuid.uuid4()), status="SUCCESS", task_name="tests.echo")
    run = Run.objects.create(
        pipeline="images", tree={"kind": "task", "task": "x", "label": "x", "task_id": "x"}, result_id="x"
    )
    every = IntervalSchedule.objects.create(every=1, period="days")
    schedule = PeriodicTask.objects.create(name="nightly", task="tests.echo", interval=every)
    sent = redrive.start(Selection(numbers=(letter().pk,)), by=admin_user)
    letters, schedules = "/deadletters/deadletter/", "/schedules/schedule/"
    screens = {
        letters: 1, f"{letters}by-error/": 1, f"{letters}error/{dead.fingerprint}/": 2, f"{letters}{dead.pk}/change/": 2, f"{letters}{dead.pk}/edit/": 3,
        "/deadletters/redrive/": 1, f"/deadletters/redrive/{sent.pk}/change/": 2, f"/deadletters/redrive/new/?fingerprint={dead.fingerprint}": 2,
        "/deadletters/act/": 1, "/pipelines/run/": 1, "/pipelines/run/add/": 2, "/pipelines/run/add/?pipeline=images": 3, f"/pipelines/run/{run.pk}/change/": 2,
        "/django_celery_results/taskresult/": 1, f"/django_celery_results/taskresult/{result.pk}/change/": 2, schedules: 1, f"{schedules}add/": 2,
        f"{schedules}{schedule.pk}/change/": 2, f"{schedules}{schedule.pk}/history/": 3, "/workers/": 1, "/monitoring/delivery/": 1, "/help/": 1, "/help/words/": 2,
    }  # fmt: skip
    for screen, depth in screens.items():
        page = client.get(screen).content.decode()
        crumbs = re.search(r'<div class="breadcrumbs">(.*?)</div>', page, re.DOTALL)[1]
        *above, here = crumbs.split("&rsaquo;")
        assert [crumb.count("<a ") for crumb in above] == [1] * depth, screen
        assert "<a " not in here, screen
        assert re.sub(r"<[^>]*>", "", here).strip(), screen
        links = re.findall(r'href="([^"]+)"', crumbs)
        assert links[0] == "/", screen
        for link in links:
            assert client.get(link).status_code == 200, (screen, link)


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/New_York"])
def test_a_time_is_told_as_how_long_ago_and_exactly_in_the_reader_s_zone(client, admin_user, zone):
    client.force_login(admin_user)
    client.cookies["zone"] = zone
    died = letter(died_at=timezone.now() - timedelta(hours=3)).died_at
    page = client.get("/deadletters/deadletter/").content.decode()
    (told,) = re.findall(r'<td class="field-died"><time datetime="([^"]+)" title="([^"]+)">(.*?)</time>', page)
    there = died.astimezone(ZoneInfo(zone))
    assert datetime.fromisoformat(told[0]) == died
    assert told[1] == f"{there:%Y-%m-%d %H:%M:%S %Z}"
    assert told[2].replace("\xa0", " ") == "3 hours ago"


def test_states_of_results_and_titles_of_rows_are_japanese_for_who_reads_japanese(client, admin_user):
    client.force_login(admin_user)
    client.cookies["django_language"] = "ja"
    dead = letter(task_name="shop.charge", exception_type="ReadTimeout")
    started = timezone.now() - timedelta(minutes=3, seconds=5)
    result = TaskResult.objects.create(
        task_id=dead.task_id, status="FAILURE", task_name="shop.charge", date_started=started
    )
    sent = redrive.start(Selection(numbers=(dead.pk,)), by=admin_user)
    listed, shown = (
        client.get(f"/django_celery_results/taskresult/{path}").text for path in ("", f"{result.pk}/change/")
    )
    assert 'data-state="FAILURE">失敗</span>' in listed
    assert 'data-state="FAILURE">失敗</span>' in shown
    assert ">失敗</a>" in listed  # in the filter
    assert ">3 分 5 秒</td>" in listed
    assert f"<title>一括リプレイ {sent.pk} " in client.get(f"/deadletters/redrive/{sent.pk}/change/").text
    assert "<title>ReadTimeout (shop.charge) " in client.get(f"/deadletters/deadletter/error/{dead.fingerprint}/").text


@pytest.mark.parametrize(("language", "words"), [("en", "There is no such page"), ("ja", "そのページはありません")])
def test_a_page_that_is_missing_says_so_in_its_title(client, admin_user, language, words):
    client.force_login(admin_user)
    answer = client.get("/nothing/", headers={"Accept-Language": language})
    assert answer.status_code == 404
    assert f"<title>{words} · Redeliver</title>" in answer.text
