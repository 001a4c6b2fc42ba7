import re
import uuid
from datetime import timedelta

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django_celery_beat.models import IntervalSchedule, PeriodicTask
from django_celery_results.models import TaskResult

from deadletters.console.listing import Count
from deadletters.console.names import breakable
from deadletters.models import State
from monitoring import dashboard, heartbeats, tiles, views
from monitoring.models import PausedQueue
from monitoring.queues import Queue
from monitoring.workers import Member, Workers
from pipelines.models import Run
from schedules.history import Broken
from schedules.liveness import Liveness
from schedules.models import Schedule

pytestmark = pytest.mark.django_db


def result(status="SUCCESS", ago=timedelta(minutes=1), **fields):
    row = TaskResult.objects.create(
        task_id=str(uuid.uuid4()), status=status, task_name="shop.charge", content_type="application/json", **fields
    )
    TaskResult.objects.filter(pk=row.pk).update(date_done=timezone.now() - ago)  # auto_now
    return row


def run():
    return Run.objects.create(pipeline="images", tree={"kind": "task"}, result_id=str(uuid.uuid4()))


@pytest.fixture
def page(client, admin_user):
    client.force_login(admin_user)
    return lambda **headers: client.get("/", headers=headers)


def test_the_front_page_is_the_dashboard(page):
    response = page()
    assert response.status_code == 200
    assert "monitoring/dashboard.html" in [template.name for template in response.templates]


def test_strangers_are_sent_to_the_login(client):
    response = client.get("/")
    assert response.status_code == 302
    assert "/login/" in response.headers["Location"]


def test_an_empty_house_says_so(page):
    assert "Nothing has run yet." in page().content.decode()


def test_many_rows_take_as_many_queries_as_one(page, letter):
    def add(number):
        letter(fingerprint=f"{number % 8:032}")
        result()
        result("STARTED")
        run()

    add(0)
    page()  # the first one also asks who is alive, and closes minutes
    with CaptureQueriesContext(connection) as one:
        page()
    for number in range(30):
        add(number)
    page()  # the first one of a minute also closes the one before
    with CaptureQueriesContext(connection) as many:
        page()
    assert len(many) == len(one) <= 23


def test_the_figures_are_those_of_the_store(letter, page):
    now = timezone.now()
    for minutes in (1, 5, 3000):
        letter(died_at=now - timedelta(minutes=minutes), fingerprint="a")
    letter(fingerprint="b", task_name="mail.send")
    letter(fingerprint="a", state=State.RESOLVED)
    for _ in range(3):
        result()
    result("FAILURE", timedelta(minutes=30))
    result("FAILURE", timedelta(hours=5))
    figures = dashboard.figures()
    assert (figures.open.number, figures.died_today) == (4, 4)
    assert figures.oldest.died_at == now - timedelta(minutes=3000)
    assert (figures.rates.succeeded, figures.rates.failed, figures.rates.failure) == (3, 1, 0.25)
    assert figures.rates.per_minute == pytest.approx(0.6)  # three within the last five whole minutes
    assert sum(bin_.succeeded for bin_ in figures.bins) == 3
    assert sum(bin_.failed for bin_ in figures.bins) == 2
    assert len(figures.bins) == 48
    assert [(error.fingerprint, error.open.number) for error in figures.errors] == [("a", 3), ("b", 1)]
    assert sum(figures.errors[0].hourly) == 3  # the resolved one died today too, the oldest two days ago
    assert figures.errors[1].task_name == "mail.send"
    assert not figures.empty


def test_half_hours_begin_at_the_half_hour_and_the_last_one_is_now():
    read = dashboard.figures()
    assert all(bin_.start.minute in (0, 30) and not bin_.start.second for bin_ in read.bins)
    assert read.bins[-1].start <= timezone.now() < read.bins[-1].start + read.window.width


@pytest.mark.parametrize(("window", "number"), [("1h", 60), ("24h", 48), ("7d", 42), ("nonsense", 48)])
def test_the_chart_looks_back_as_far_as_one_likes(page, window, number):
    result()
    read = dashboard.figures(window)
    assert len(read.bins) == number
    assert sum(bin_.succeeded for bin_ in read.bins) == 1
    assert page().status_code == 200


def test_the_poller_gets_the_fragment_and_then_not_modified(page, letter):
    letter(died_at=timezone.now() - timedelta(days=3, minutes=30))
    first = page(x_fragment="1")
    assert "<html" not in first.content.decode()
    again = page(x_fragment="1", if_none_match=first.headers["ETag"])
    assert again.status_code == 304
    letter()
    assert page(x_fragment="1", if_none_match=first.headers["ETag"]).status_code == 200


def test_a_late_schedule_is_named_with_the_time_it_was_due(page):
    result()
    assert "None is late." in page().content.decode()
    every = IntervalSchedule.objects.create(every=10, period="minutes")
    ran = timezone.now().replace(microsecond=0) - timedelta(hours=1)
    late = PeriodicTask.objects.create(name="patient", task="tests.echo", interval=every, last_run_at=ran)
    ((schedule, since),) = dashboard.figures().late
    assert (schedule.name, since) == ("patient", ran + timedelta(minutes=10))
    text = page().content.decode()
    assert f"/schedules/schedule/{late.pk}/change/" in text
    assert "/schedules/schedule/?state=late" in text
    # Beside a beat that ticks it is a trouble of its own.
    assert "“patient” (50 m)" in tiles.troubles(figures(late=[(schedule, since)]))[0]


def test_every_figure_links_to_the_list_it_counts(page, client, letter):
    now = timezone.now()
    oldest = letter(died_at=now - timedelta(days=2))
    for ago in (1, 2):
        letter(died_at=now - timedelta(minutes=ago))
        result("FAILURE", timedelta(minutes=ago))
    result()
    result("FAILURE", timedelta(hours=3))
    links = {tile.page: link for tile, link in page().context["tiles"]}
    assert set(links) == {"open", "oldest", "failed", "results", "queues", "workers", "schedules"}
    assert client.get(links["open"]).context["cl"].counted == Count(3)
    assert client.get(links["failed"]).context["cl"].counted == Count(2)
    assert client.get(links["results"]).context["cl"].counted == Count(3)
    assert client.get(links["oldest"]).context["letter"] == oldest
    for link in links.values():
        assert client.get(link).status_code == 200


def test_only_get_is_answered(client, admin_user):
    client.force_login(admin_user)
    assert client.post("/").status_code == 405


def test_what_a_person_may_not_see_is_not_shown(client, letter):
    letter(exception_message="very secret")
    result("STARTED", task_args="x")
    run()
    clerk = get_user_model().objects.create_user("clerk", is_staff=True)
    client.force_login(clerk)
    text = client.get("/").content.decode()
    for hidden in (
        "very secret",
        "Running now",
        "Late schedules",
        "Latest runs",
        "Replay all",
        "deadletters/deadletter",
    ):
        assert hidden not in text
    clerk.user_permissions.add(Permission.objects.get(codename="view_deadletter"))
    text = client.get("/").content.decode()
    assert "very secret" in text
    assert "Replay all" not in text


def test_who_may_see_no_list_reads_no_names(client, letter):
    letter(died_at=timezone.now() - timedelta(days=1), task_name="merger.prepare")
    result()
    PausedQueue.objects.create(name="vip-queue", by="ana", reason="a customer complains")
    every = IntervalSchedule.objects.create(every=10, period="minutes")
    ran = timezone.now() - timedelta(hours=1)
    late = PeriodicTask.objects.create(name="merger report", task="tests.echo", interval=every, last_run_at=ran)
    Broken.objects.create(schedule=late, reason="the merger is off", since=timezone.now())
    clerk = get_user_model().objects.create_user("clerk", is_staff=True)
    client.force_login(clerk)
    names = {"merger.prepare", "vip-queue", "a customer complains", "merger report", "the merger is off"}
    text = client.get("/").text
    assert not {name for name in names if breakable(name) in text}
    clerk.user_permissions.set(
        Permission.objects.filter(codename__in=("view_deadletter", "view_workers", "view_schedule"))
    )
    text = client.get("/").text
    assert {name for name in names if breakable(name) in text} == names


def test_whom_no_trouble_is_told_is_not_told_that_all_is_well_either():
    broken = [Schedule(name="a")]
    assert tiles.troubles(figures(broken=broken), lambda _permission: False) == []
    assert views._calm(figures(broken=broken)) == ""
    assert views._calm(figures())


def test_the_page_keeps_to_the_content_security_policy(page, letter):
    letter()
    result()
    run()
    text = page().content.decode()
    assert not re.search(r"\sstyle=|\son[a-z]+=|<script(?![^>]*\ssrc=)|<style", text)


def test_the_text_of_an_error_is_no_markup(page, letter):
    letter(exception_type="<b>X", exception_message="<script>alert(1)</script>", task_name='"><i>')
    text = page().content.decode()
    assert "<script>alert" not in text
    assert "<b>X" not in text
    assert '"><i>' not in text


def figures(**changes):
    now = timezone.now()
    return dashboard.Figures(
        **{
            "at": now, "open": Count(0), "died_today": 0, "oldest": None, "bins": [], "errors": [], "runs": [], "window": dashboard.WINDOWS["24h"],
            "rates": dashboard.Rates(succeeded=100, failed=0, per_minute=1.0), "heartbeat": now,
            "beat": Liveness(leader="host:1", age=timedelta(seconds=1)), "broken": [], "late": [],
            "queues": [Queue(name="default", waiting=0)], "workers": Workers(alive=("a@b",), silent=()), **changes,
        }
    )  # fmt: skip


def test_nothing_is_told_while_all_is_well():
    assert tiles.troubles(figures()) == []
    assert {tile.tone for tile in tiles.tiles(figures())} == {"ok"}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"workers": None, "queues": None}, "broker"),
        ({"workers": Workers(alive=(), silent=(("a@b", 240.0),))}, "No worker"),
        ({"workers": Workers(alive=("c@d",), silent=(("a@b", 240.0),))}, "Worker a@b has been silent for 4 m"),
        ({"heartbeat": timezone.now() - timedelta(days=1, hours=1)}, "heartbeat is 1 d 1 h old"),
        ({"beat": Liveness(leader="host:1", age=timedelta(minutes=2))}, "No beat ticks"),
        ({"beat": Liveness()}, "No beat ticks"),
        ({"rates": dashboard.Rates(succeeded=90, failed=10, per_minute=1)}, "10.0 % of all tasks failed"),
    ],
)
def test_what_is_wrong_is_told_in_a_sentence(changes, says):
    assert says in tiles.troubles(figures(**changes))[0]
    assert {"bad", "warn"} & {tile.tone for tile in tiles.tiles(figures(**changes))}


def test_a_queue_that_nobody_takes_from_is_trouble_unless_it_is_paused():
    workers = Workers(alive=("a@b",), silent=(), members=(Member(name="a@b", queues=("default",)),))
    waits = Queue(name="images", waiting=7)
    assert (
        "No worker takes from images, where 7 messages wait"
        in tiles.troubles(figures(workers=workers, queues=[waits]))[0]
    )
    paused = Queue(name="images", waiting=7, paused=PausedQueue(name="images", by="ana"))
    assert tiles.troubles(figures(workers=workers, queues=[paused])) == []
    assert any(tile.note == "paused: images" for tile in tiles.tiles(figures(workers=workers, queues=[paused])))


def test_few_failures_of_few_tasks_are_no_trouble():
    assert tiles.troubles(figures(rates=dashboard.Rates(succeeded=1, failed=1, per_minute=1))) == []


@pytest.mark.parametrize(
    ("duration", "words"),
    [
        (timedelta(seconds=-3), "0 s"), (timedelta(seconds=59), "59 s"), (timedelta(minutes=59, seconds=59), "59 m"),
        (timedelta(hours=3, minutes=5), "3 h 5 m"), (timedelta(days=18, minutes=5), "18 d 0 h"),
    ],
)  # fmt: skip
def test_ages_are_told_in_two_units_at_most(duration, words):
    assert tiles.age(duration) == words


def test_a_heartbeat_is_one_row_that_moves_on(django_assert_num_queries):
    assert heartbeats.last() is None
    heartbeats.record()
    with django_assert_num_queries(1):
        second = heartbeats.record()
    assert heartbeats.last() == second
