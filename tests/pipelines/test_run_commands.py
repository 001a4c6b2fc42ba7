"""`list_pipelines` and `run_pipeline` as real processes, with their exit codes."""

import json
from io import StringIO

import pytest
from django.core.management import call_command

from pipelines.models import Run
from tests.processes import manage

pytestmark = [pytest.mark.worker, pytest.mark.django_db(transaction=True)]


def test_the_pipelines_are_listed_for_people_and_for_programs():
    text = manage("list_pipelines")
    assert text.returncode == 0, text.stderr
    assert "arithmetic\n  Add and multiply small numbers" in text.stdout
    assert '--param shape=…  chain|pipe|group|chord, default "chord"' in text.stdout
    listed = {pipeline["name"]: pipeline for pipeline in json.loads(manage("list_pipelines", "--json").stdout)}
    assert listed["arithmetic"]["parameters"][0]["default"] == "chord"


def test_a_run_is_started_and_its_address_printed(worker):
    done = manage("run_pipeline", "arithmetic", "--param", "shape=chain")
    assert done.returncode == 0, done.stderr
    run = Run.objects.get()
    assert str(run.pk) in done.stdout
    assert (run.origin, run.started_by, run.parameters) == ("command", None, {"shape": "chain"})


def test_waiting_prints_what_the_run_returned(worker):
    done = manage("run_pipeline", "arithmetic", "--wait")
    assert (done.returncode, done.stdout) == (0, "28\n"), done.stderr


def test_waiting_says_it_in_json(worker):
    done = manage("run_pipeline", "arithmetic", "--param", "shape=group", "--wait", "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["state"], said["result"], said["steps"]) == ("succeeded", [4, 8, 16], {"succeeded": 3})


def test_what_may_be_secret_is_masked_in_json():
    said = StringIO()
    call_command("run_pipeline", "test-secret", param=[("password", "open sesame")], json=True, stdout=said)
    assert "sesame" not in said.getvalue()
    assert Run.objects.get().parameters == {"password": "open sesame"}


def test_a_dead_step_is_named_and_is_exit_1(worker):
    done = manage("run_pipeline", "images", "--param", "urls=http://127.0.0.1:1/a.jpg", "--wait", "--json")
    assert done.returncode == 1, done.stdout
    assert json.loads(done.stdout)["state"] == "failed"
    assert "pipelines.fetch_image" in done.stderr
    assert "Traceback" not in done.stderr


def test_time_that_is_up_is_exit_1_and_the_run_goes_on():
    done = manage("run_pipeline", "arithmetic", "--wait", "--timeout", "0.5")
    assert done.returncode == 1
    assert "is not done after 0.5 s; it goes on" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["arithmetik"], "Did you mean: arithmetic"),
        (["arithmetic", "--param", "shape=ring"], "shape: must be one of"),
        (["arithmetic", "--param", "colour=red"], "colour: is no parameter of arithmetic"),
        (["arithmetic", "--param", "shape"], "must look like NAME=VALUE"),
        (["arithmetic", "--param", "shape=chain", "--param", "shape=group"], "shape: is given twice"),
        (["arithmetic", "--timeout", "5"], "--timeout needs --wait"),
        (["arithmetic", "--wait", "--timeout", "soon"], "is no number of seconds"),
        (["images"], "urls: is required"),
        (["images", "--param", "urls=ftp://a.example/x", "--param", "urls=b"], "urls: "),
        ([], "name"),
    ],
)
def test_wrong_usage_is_exit_2_and_names_what_is_wrong(arguments, says):
    done = manage("run_pipeline", *arguments)
    assert done.returncode == 2, done.stdout
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert not Run.objects.exists()


def test_a_broker_that_is_away_is_one_sentence_and_exit_2():
    done = manage("run_pipeline", "arithmetic", BROKER_URL="redis://127.0.0.1:1/0")
    assert done.returncode == 2
    assert "could not be sent" in done.stderr
    assert "Traceback" not in done.stderr
    assert Run.objects.get().problem


def test_help_teaches_with_examples():
    done = manage("run_pipeline", "--help")
    assert done.returncode == 0
    assert "manage.py run_pipeline arithmetic --wait" in done.stdout
