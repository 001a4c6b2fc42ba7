import json
import uuid
from datetime import timedelta

import pytest
from django.utils import timezone
from django_celery_results.models import TaskResult

from pipelines.models import Run, Step
from tests.deadletters.letters import letter

pytestmark = pytest.mark.django_db

LIST = "/django_celery_results/taskresult/"


def result(**fields):
    known = {
        "task_id": str(uuid.uuid4()), "task_name": "shop.price", "status": "SUCCESS", "worker": "w1",
        "task_args": json.dumps("(1, 'a')"), "task_kwargs": json.dumps("{}"), "result": json.dumps({"rows": 4}),
        "content_type": "application/json", "content_encoding": "utf-8",
    }  # fmt: skip
    return TaskResult.objects.create(**{**known, **fields})


def ids(response):
    return [row.pk for row in response.context["cl"].result_list]


def page(client, made):
    return client.get(f"{LIST}{made.pk}/change/")


def test_results_are_listed_newest_first_and_filtered(admin_client):
    first, second = result(), result(status="FAILURE", worker="w2", task_name="shop.merge")
    assert ids(admin_client.get(LIST)) == [second.pk, first.pk]
    assert ids(admin_client.get(LIST, {"status": "FAILURE"})) == [second.pk]
    assert ids(admin_client.get(LIST, {"worker": "w1"})) == [first.pk]
    assert ids(admin_client.get(LIST, {"q": "MERGE"})) == [second.pk]
    assert ids(admin_client.get(LIST, {"q": first.task_id})) == [first.pk]
    assert "3 letters or more" in admin_client.get(LIST, {"q": "s"}).text


def test_pages_are_walked_by_time(admin_client, monkeypatch):
    monkeypatch.setattr("pipelines.results_admin.ResultAdmin.list_per_page", 2)
    made = [result().pk for _ in range(5)]
    first = admin_client.get(LIST)
    second = admin_client.get(LIST + first.context["cl"].older)
    assert ids(first) + ids(second) == made[:0:-1]


def test_one_result_shows_what_was_given_and_returned(admin_client):
    made = result(date_started=timezone.now() - timedelta(seconds=75))
    text = page(admin_client, made).text
    assert "(1, &#x27;a&#x27;)" in text
    assert "rows" in text
    assert "1 min 15 s" in text


@pytest.mark.parametrize("stored", [None, "", "no json", '"text"', "[1, 2]"])
def test_whatever_was_stored_is_shown(admin_client, stored):
    made = result(task_args=stored, task_kwargs=stored, result=stored, task_name=None)
    assert admin_client.get(LIST).status_code == 200
    assert page(admin_client, made).status_code == 200


def test_a_result_links_to_its_dead_letter_and_its_run_and_the_letter_to_the_run(admin_client):
    made = result(status="FAILURE")
    dead = letter(task_id=made.task_id)
    run = Run.objects.create(pipeline="images", tree={}, result_id="x")
    Step.objects.create(run=run, position=0, task_id=made.task_id, task_name=made.task_name)
    text = page(admin_client, made).text
    assert f"/deadletters/deadletter/{dead.pk}/change/" in text
    assert f"/pipelines/run/{run.pk}/change/" in text
    assert f"/pipelines/run/{run.pk}/change/" in admin_client.get(f"/deadletters/deadletter/{dead.pk}/change/").text


def test_results_cannot_be_changed(admin_client):
    made = result()
    assert admin_client.get(LIST + "add/").status_code == 403
    assert admin_client.post(f"{LIST}{made.pk}/delete/", {"post": "yes"}).status_code == 403
    assert admin_client.post(f"{LIST}{made.pk}/change/", {}).status_code == 405
    assert admin_client.get("/django_celery_results/groupresult/").status_code == 404


@pytest.mark.parametrize(
    "stored", [json.dumps("half a pair \ud800"), "[" * 2000 + "]" * 2000], ids=["surrogate", "nested too deeply"]
)
def test_a_value_that_no_page_could_hold_is_shown_all_the_same(admin_client, stored):
    made = result(result=stored, task_args=json.dumps(["half a pair \ud800"]))
    assert page(admin_client, made).status_code == 200
    assert "half a pair \\ud800" in admin_client.get(LIST).text


def test_a_run_that_returned_half_a_surrogate_pair_is_shown(admin_client):
    task_id = result(result=json.dumps("half a pair \ud800"), task_args=json.dumps("(half a pair \ud800)")).task_id
    tree = {"kind": "task", "task_id": task_id, "task": "shop.price", "label": "shop.price"}
    run = Run.objects.create(pipeline="test-wide", tree=tree, result_id=task_id)
    Step.objects.create(run=run, position=0, task_id=task_id, task_name="shop.price")
    assert "half a pair \\ud800" in admin_client.get(f"/pipelines/run/{run.pk}/change/").text
