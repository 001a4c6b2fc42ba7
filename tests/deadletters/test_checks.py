"""What would quietly lose letters is said at start, and a worker refuses it."""

import pytest
from celery import Task, current_app
from celery.worker.request import Request

from deadletters import checks
from deadletters.capture.request import DeadLetterRequest
from tests.checked import ids
from tests.processes import Process, eventually


def test_what_is_shipped_passes():
    assert checks.deaths_are_captured() == checks.nothing_loops_or_is_lost() == []


def test_a_task_that_would_die_unseen_is_refused(registered):
    class Deaf(Task):
        Request = "celery.worker.request:Request"

    class Mute(Task):
        Request = Request

    class Listening(Task):
        Request = type("Mine", (DeadLetterRequest,), {})

    for base in (Deaf, Mute, Listening):
        registered(base=base)
    assert ids(checks.deaths_are_captured()) == [
        ("deadletters.E003", "tests.checked0"),
        ("deadletters.E003", "tests.checked1"),
    ]


def test_a_rule_that_names_no_arguments_is_refused(registered):
    for rule in (["card", 0], ("card",), None, "card", 5, [0.5]):
        registered(redact=rule)
    refused = [("deadletters.E005", f"tests.checked{number}") for number in (3, 4, 5)]
    assert [found for found in ids(checks.rules_name_arguments()) if "checked" in found[1]] == refused


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        ("task_acks_late", False, "deadletters.W001"),
        ("task_acks_on_failure_or_timeout", False, "deadletters.W002"),
        ("worker_prefetch_multiplier", 4, "deadletters.W003"),
        ("broker_transport_options", {"visibility_timeout": 30}, "deadletters.W004"),
    ],
)
def test_a_setting_under_which_a_lost_worker_costs_something_is_named(name, value, found):
    before = current_app.conf[name]
    current_app.conf[name] = value
    try:
        assert ids(checks.nothing_loops_or_is_lost()) == [(found, None)]
    finally:
        current_app.conf[name] = before


@pytest.mark.worker
def test_a_worker_with_a_task_that_would_die_unseen_does_not_start(tmp_path):
    (tmp_path / "deaf_tasks.py").write_text(
        "from celery import Task, shared_task\n\n\nclass Deaf(Task):\n    Request = 'celery.worker.request:Request'\n\n\n"
        "@shared_task(base=Deaf, name='tests.deaf')\ndef deaf():\n    pass\n"
    )
    process = Process(
        "-m", "celery", "-A", "config", "worker", "--include", "deaf_tasks", "-Q", "deaf", "-c", "1", log=tmp_path / "log",
        PYTHONPATH=str(tmp_path),
    )  # fmt: skip
    try:
        eventually(lambda: not process.alive)
        assert "These tasks would die without leaving a dead letter: tests.deaf." in process.output
    finally:
        process.stop()
