import pytest
from celery import current_app
from django.contrib.admin.models import LogEntry
from kombu.exceptions import OperationalError

from schedules import edit
from schedules.due import Every
from schedules.message import COPY_HEADER
from schedules.models import Occurrence, Schedule
from schedules.run_now import NotRun, run_now

pytestmark = pytest.mark.django_db


@pytest.fixture
def quiet():
    """A schedule with everything that a message can carry, in a queue that nobody listens to."""
    one = Schedule(name="Quiet", task="tests.total", args="[1, 2]", kwargs='{"times": 3}', queue="run-now", priority=4,
                   headers='{"tenant": "blue"}', expire_seconds=600, enabled=False)  # fmt: skip
    edit.place(one, Every.parse(100, "days"))
    edit.save(one)
    return one


def test_run_now_sends_what_the_schedule_would_and_says_by_whom(quiet, admin_user):
    task_id = run_now(quiet, by=admin_user)
    with current_app.connection_for_read() as broker:
        queue = broker.SimpleQueue("run-now")
        message = queue.get(timeout=20)
        queue.clear()
        queue.close()
    assert (message.headers["id"], message.headers["task"]) == (task_id, "tests.total")
    assert message.payload[:2] == [[1, 2], {"times": 3}]
    assert (message.headers["tenant"], message.headers["periodic_task_name"]) == ("blue", "Quiet")
    assert message.headers["expires"]
    assert message.properties["priority"] == 4
    done = Occurrence.objects.get()
    assert message.headers[COPY_HEADER] == done.copy
    assert (str(done.id), done.schedule_id, done.state, done.by) == (task_id, quiet.pk, "sent", "admin")
    entry = LogEntry.objects.get()
    assert (entry.user, task_id in entry.change_message) == (admin_user, True)
    assert Schedule.objects.get().last_run_at is None  # its times are left alone


def test_arguments_that_do_not_fit_are_said_and_leave_no_trace(quiet, admin_user):
    quiet.args = "[1, 2, 3, 4, 5]"
    with pytest.raises(NotRun, match="does not take these arguments"):
        run_now(quiet, by=admin_user)
    assert not Occurrence.objects.exists()


def test_an_edit_of_its_words_does_not_move_a_schedule_that_has_not_run(quiet):
    counts_from = Schedule.objects.get().date_changed
    quiet.description = "Nothing about its times."
    edit.save(quiet)
    found = Schedule.objects.get()
    assert (found.description, found.date_changed) == (quiet.description, counts_from)
    edit.place(quiet, Every.parse(99, "days"))
    edit.save(quiet)
    assert Schedule.objects.get().date_changed > counts_from


def test_what_the_broker_does_not_take_leaves_no_trace(quiet, admin_user, monkeypatch):
    def refuse(*_args, **_options):
        raise OperationalError("Connection refused")

    monkeypatch.setattr(current_app.tasks["tests.total"], "apply_async", refuse)
    with pytest.raises(NotRun, match="broker does not answer"):
        run_now(quiet, by=admin_user)
    assert not Occurrence.objects.exists()
    assert not LogEntry.objects.exists()
