"""List, start form and page of the runs, through Django's client."""

import re

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from kombu.exceptions import OperationalError

from config.celery import app
from deadletters.console.names import breakable
from deadletters.models import DeadLetter
from pipelines import runs
from pipelines.models import Run
from pipelines.states import Overall
from tests.processes import eventually

pytestmark = [pytest.mark.worker, pytest.mark.django_db(transaction=True)]

LIST = "/pipelines/run/"
ADD = "/pipelines/run/add/"


def page_of(run):
    return reverse("admin:pipelines_run_change", args=[run.pk])


def ended(run):
    return list(runs.follow(run, every=0.1, timeout=60))[-1]


def person(*permissions):
    user = User.objects.create_user(f"person{User.objects.count()}", password="x", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def boss(admin_user):
    client = Client()
    client.force_login(admin_user)
    return client


def test_somebody_starts_a_pipeline_and_watches_it_end(boss, worker):
    assert "arithmetic" in boss.get(ADD).content.decode()
    form = boss.get(f"{ADD}?pipeline=arithmetic").content.decode()
    assert "4, 8 and 16" in form
    answer = boss.post(f"{ADD}?pipeline=arithmetic", {"shape": "chord"})
    run = Run.objects.get()
    assert answer.headers["Location"] == page_of(run)
    assert (run.origin, run.started_by.username) == ("admin", "admin")
    ended(run)
    page = boss.get(page_of(run)).content.decode()
    assert "succeeded" in page
    assert "100 %" in page
    assert ">28</pre>" in page
    assert "data-poll=" not in page
    assert " style=" not in page
    assert "28" in page


@pytest.mark.parametrize(
    ("pipeline", "values", "says"),
    [
        ("arithmetic", {"shape": "ring"}, "shape: must be one of"),
        ("test-sleeps", {"number": "many"}, "number: must be a whole number"),
        ("test-mends", {"path": ""}, "path: is required"),
        ("test-mends", {"path": "a\0b"}, "path: "),
        ("test-no-canvas", {}, "must return a Celery canvas"),
    ],
)
def test_a_bad_value_is_refused_with_its_field_s_name_and_nothing_is_lost(boss, pipeline, values, says):
    answer = boss.post(f"{ADD}?pipeline={pipeline}", {**values, "width": "77"})
    assert answer.status_code == 200
    page = answer.content.decode()
    assert says in page
    assert "Nothing was started" in page
    assert pipeline != "test-mends" or "77" in page
    assert not Run.objects.exists()


def test_an_unknown_pipeline_leads_back_to_the_choice_with_a_hint(boss):
    page = boss.get(f"{ADD}?pipeline=arithmetics", follow=True).content.decode()
    assert "Did you mean: arithmetic" in page


def test_a_run_that_could_not_be_sent_says_so_on_its_page(boss, monkeypatch):
    def away(*_args, **_options):
        raise OperationalError("Connection refused")

    monkeypatch.setattr(app.amqp, "send_task_message", away)
    page = boss.post(f"{ADD}?pipeline=arithmetic", {"shape": "chord"}, follow=True).content.decode()
    assert "could not be sent: Connection refused" in page
    assert "not sent" in page


def test_a_dead_step_is_on_the_page_with_its_letter_and_can_be_replayed(boss, worker, mended):
    run = runs.start("test-mends", {"path": str(mended)})
    ended(run)
    letter = eventually(DeadLetter.objects.first)
    page = boss.get(page_of(run)).content.decode()
    assert reverse("admin:deadletters_deadletter_change", args=[letter.pk]) in page
    assert breakable("FileNotFoundError") in page
    assert "Replay failed 1" in page
    assert "2 blocked" in page
    assert 'data-every="5000"' in page
    only = boss.get(f"{page_of(run)}?state=dead").content.decode()
    assert only.count(breakable("tests.die_unless")) < page.count(breakable("tests.echo")) + page.count(
        breakable("tests.die_unless")
    )
    mended.write_text("back")
    boss.post(reverse("admin:pipelines_run_replay", args=[run.pk]))
    assert ended(run).overall is Overall.SUCCEEDED


def test_the_poller_gets_the_moving_part_and_only_when_it_changed(boss, worker, mended):
    run = runs.start("test-mends", {"path": str(mended)})
    ended(run)
    eventually(DeadLetter.objects.exists)
    first = boss.get(page_of(run), headers={"X-Fragment": "1"})
    assert "<html" not in first.content.decode()
    assert "X-Poll-Stop" not in first.headers  # a dead step may be replayed any time

    def nothing_new():
        # What waits behind the dead step is told of its death after the letter is there: until then the page changes.
        seen = boss.get(page_of(run), headers={"X-Fragment": "1"}).headers["ETag"]
        return boss.get(page_of(run), headers={"X-Fragment": "1", "If-None-Match": seen}).status_code == 304

    eventually(nothing_new)
    done = runs.start("arithmetic", {})
    ended(done)
    assert boss.get(page_of(done), headers={"X-Fragment": "1"}).headers["X-Poll-Stop"] == "1"


def test_the_runs_before_are_told_with_how_long_they_took(boss, worker):
    before = runs.start("arithmetic", {})
    ended(before)
    run = runs.start("arithmetic", {})
    ended(run)
    told = boss.get(page_of(run)).content.decode().split('id="h-before"')[1]
    assert page_of(before) in told
    assert re.search(r'class="o-num o-quiet">\d+(\.\d)? (ms|s)<', told)
    assert "This is the first." in boss.get(page_of(before)).content.decode()


def test_somebody_cancels_a_run(boss, worker):
    run = runs.start("test-sleeps", {"number": 3, "seconds": 2.0})
    assert "Cancel run" in boss.get(page_of(run)).content.decode()
    page = boss.post(reverse("admin:pipelines_run_cancel", args=[run.pk]), follow=True).content.decode()
    assert "will not run any more" in page
    assert "Cancelled by admin" in page
    assert "Cancelled a run" in page  # in the audit trail
    assert ended(run).overall is Overall.CANCELLED
    again = boss.post(reverse("admin:pipelines_run_cancel", args=[run.pk]), follow=True).content.decode()
    assert "nothing of it waits any more" in again


@pytest.mark.parametrize("act", ["cancel", "replay"])
def test_acts_answer_to_nothing_but_a_post_with_a_token(act, admin_user):
    run = Run.objects.create(
        pipeline="arithmetic", tree={"kind": "group", "task_id": "g", "children": []}, result_id="g"
    )
    url = reverse(f"admin:pipelines_run_{act}", args=[run.pk])
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(admin_user)
    assert strict.get(url).status_code == 405
    assert strict.post(url).status_code == 403
    assert strict.post(f"{ADD}?pipeline=arithmetic", {"shape": "chord"}).status_code == 403
    assert Run.objects.count() == 1


def test_who_may_only_look_sees_no_button_and_is_refused(worker, mended):
    run = runs.start("test-mends", {"path": str(mended)})
    ended(run)
    viewer = person("view_run")
    page = viewer.get(page_of(run)).content.decode()
    assert not any(button in page for button in ("Cancel run", "Replay failed", "Start again"))
    assert "Start a pipeline" not in viewer.get(LIST).content.decode()
    for act in ("cancel", "replay"):
        assert viewer.post(reverse(f"admin:pipelines_run_{act}", args=[run.pk])).status_code == 403
    assert viewer.get(ADD).status_code == 403
    assert viewer.post(f"{ADD}?pipeline=arithmetic", {"shape": "chord"}).status_code == 403
    assert person().get(page_of(run)).status_code == 403
    assert person("view_run", "start_run").get(ADD).status_code == 200


def test_nobody_sees_a_run_without_signing_in(client):
    assert client.get(LIST).status_code == 302
    assert client.get(f"{LIST}not-a-run/change/").status_code == 302


@pytest.mark.parametrize("address", ["not-a-run", "00000000-0000-0000-0000-000000000001"])
def test_an_address_of_no_run_is_a_404(boss, address):
    assert boss.get(f"{LIST}{address}/change/").status_code == 404


def test_the_list_asks_as_much_for_many_rows_as_for_few(boss, worker, mended):
    def questions():
        with CaptureQueriesContext(connection) as captured:
            page = boss.get(LIST)
        assert page.status_code == 200
        return len(captured), page.content.decode()

    assert "No run here" in questions()[1]
    ended(runs.start("test-mends", {"path": str(mended)}))
    few, _page = questions()
    others = [runs.start("arithmetic", {}) for _ in range(4)]
    others += [runs.start("test-mends", {"path": str(mended)}) for _ in range(3)]
    for run in others:
        ended(run)
    many, page = questions()
    assert many <= few + 2  # the trees of runs that counts alone don't tell
    assert page.count("4 / 4") == 4
    assert page.count("1 dead") == 4
    filtered = boss.get(f"{LIST}?pipeline=arithmetic").content.decode()
    assert filtered.count("4 / 4") == 4
    assert "1 dead" not in filtered


def test_a_box_of_the_graph_replays_its_own_dead_steps(boss, worker, mended):
    run = runs.start("test-mends", {"path": str(mended)})
    ended(run)
    letter = eventually(DeadLetter.objects.first)
    replay = reverse("admin:pipelines_run_replay", args=[run.pk])
    assert f'id="node-{letter.task_id}"' in boss.get(page_of(run)).content.decode()
    boss.post(replay, {"node": run.steps.first().task_id})  # the box before the dead one
    letter.refresh_from_db()
    assert letter.state == "open"
    mended.write_text("back")
    boss.post(replay, {"node": letter.task_id})
    assert ended(run).overall is Overall.SUCCEEDED


def test_the_timeline_tells_wait_and_run_apart(boss, worker):
    run = runs.start("arithmetic", {})
    ended(run)
    page = boss.get(f"{page_of(run)}?view=timeline").content.decode()
    assert page.count('class="wait"') >= len(run.steps.all())
    assert 'class="o-dag"' not in page
    assert " style=" not in page


def test_ten_thousand_steps_are_shown_by_the_hundred(boss):
    tree = {"kind": "group", "task_id": "g", "children": [{"kind": "task", "task_id": f"t{n}", "task": "a", "label": "a"} for n in range(10_000)]}  # fmt: skip
    run = Run.objects.create(pipeline="wide", tree=tree, result_id="g")
    page = boss.get(f"{page_of(run)}?part=99").content.decode()
    assert "9,901 to 10,000 of 10,000" in page
    assert len(page) < 150_000


def test_a_run_is_found_by_its_id_by_a_task_of_it_and_by_its_pipeline(boss):
    tree = {"kind": "task", "task_id": "5f0c5b0e-7a0b-4a56-9c0b-111111111111", "task": "a", "label": "a"}
    run = Run.objects.create(pipeline="arithmetic", tree=tree, result_id="x")
    run.steps.create(position=0, task_id=tree["task_id"], task_name="a")
    Run.objects.create(pipeline="images", tree={**tree, "task_id": "t"}, result_id="y")
    for text in (str(run.pk), tree["task_id"], "ARITH"):
        assert [row.pk for row in boss.get(LIST, {"q": text}).context["cl"].result_list] == [run.pk]
    assert "Nothing matches" in boss.get(LIST, {"q": "nothing-like-it"}).content.decode()
