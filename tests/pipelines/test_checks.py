import pytest

from pipelines import checks
from tests.checked import ids
from tests.processes import manage


def test_what_is_shipped_passes():
    assert checks.tasks_end() == []


def test_a_task_without_a_limit_is_refused(registered):
    registered(time_limit=0)
    registered(soft_time_limit=0)
    assert ids(checks.tasks_end()) == [("pipelines.E001", "tests.checked0"), ("pipelines.E001", "tests.checked1")]


def test_a_task_that_is_killed_before_it_is_told_is_refused(registered):
    registered(soft_time_limit=20, time_limit=20)
    assert ids(checks.tasks_end()) == [("pipelines.E002", "tests.checked0")]


def test_a_task_that_outlives_its_message_is_named(registered):
    registered(soft_time_limit=20, time_limit=5000)
    assert ids(checks.tasks_end()) == [("pipelines.W001", "tests.checked0")]


def test_default_limits_that_make_no_sense_are_one_error():
    done = manage("check", TASK_SOFT_TIME_LIMIT="300")
    assert done.returncode == 1
    assert done.stderr.count("pipelines.E") == 1
    assert "Set TASK_SOFT_TIME_LIMIT below TASK_TIME_LIMIT." in done.stderr


@pytest.mark.parametrize("name", ["STORAGE_URL", "UPLOAD_URL"])
def test_an_address_of_files_that_no_step_could_use_is_named(name):
    done = manage("check", **{name: "/srv/images"})
    assert done.returncode == 1
    assert f"(pipelines.E005) {name} must begin with file:// or s3://, not '/srv/images'." in done.stderr
