"""Every way of dying, on Redis and on RabbitMQ, acknowledged late and early: one letter each, the right cause, and a living worker.

All of a broker's deaths are sent at once and die side by side; each test then looks at its own.
"""

from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from celery import chord, current_app
from celery.exceptions import TaskRevokedError
from django.core.management import call_command
from django_celery_results.models import TaskResult

from deadletters.envelope import Envelope
from deadletters.models import Cause, DeadLetter, Event, State
from deadletters.workers import EarlyStart, Starts
from tests import tasks
from tests.processes import Worker, eventually
from tests.rabbitmq import publishing_to

# Not `transaction=True`, which empties the tables after each test: what the workers commit stays for the whole module.
pytestmark = [pytest.mark.worker, pytest.mark.django_db]

BIG = "x" * 10_000_000
LATE, EARLY = "late", "early"
BOTH = (LATE, EARLY)


@dataclass(frozen=True)
class Way:
    """A way of dying: the task, and what its letter says."""

    task: str
    cause: str
    exception: str
    acks: tuple[str, ...] = BOTH
    args: tuple[Any, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    retries: int = 0
    says: str = ""
    # How often it is begun, where that is more than once by the broker's doing; the task leaves a line a start.
    starts: int = 0


WAYS = {
    "exception": Way("tests.die", Cause.EXCEPTION, "ValueError"),
    "ten megabytes of arguments": Way("tests.die", Cause.EXCEPTION, "ValueError", args=(BIG,)),
    "autoretry_for exhausted": Way("tests.autoretry", Cause.EXCEPTION, "TimeoutError", retries=1),
    "retry with its exception exhausted": Way("tests.retry_with", Cause.EXCEPTION, "ConnectionError", retries=2),
    "retry without exception exhausted": Way(
        "tests.retry_bare", Cause.RETRIES_EXHAUSTED, "MaxRetriesExceededError", retries=1
    ),
    "soft time limit": Way("tests.overrun_soft", Cause.SOFT_TIME_LIMIT, "SoftTimeLimitExceeded"),
    "hard time limit": Way("tests.overrun_hard", Cause.HARD_TIME_LIMIT, "TimeLimitExceeded"),
    "process killed": Way("tests.vanish", Cause.WORKER_LOST, "WorkerLostError"),
    "segmentation fault": Way("tests.segfault", Cause.WORKER_LOST, "WorkerLostError"),
    "os._exit": Way("tests.exit_at_once", Cause.WORKER_LOST, "WorkerLostError"),
    "sys.exit": Way("tests.sys_exit", Cause.WORKER_LOST, "SystemExit"),
    "KeyboardInterrupt": Way("tests.interrupt", Cause.WORKER_LOST, "KeyboardInterrupt"),
    "GeneratorExit": Way("tests.generator_exit", Cause.EXCEPTION, "GeneratorExit"),
    "MemoryError": Way("tests.run_out_of_memory", Cause.MEMORY_ERROR, "MemoryError"),
    "Reject": Way("tests.reject", Cause.REJECTED, "Reject"),
    "Reject that would requeue what is acknowledged": Way("tests.reject_early", Cause.REJECTED, "Reject", acks=(LATE,)),
    "exception that cannot be pickled": Way("tests.cannot_travel", Cause.EXCEPTION, "Unpicklable"),
    "exception without a text": Way("tests.speechless", Cause.EXCEPTION, "Speechless"),
    "result that cannot be encoded": Way("tests.unencodable", Cause.RESULT_ENCODE, "EncodeError"),
    "NUL and a lone surrogate": Way("tests.nul", Cause.EXCEPTION, "ValueError", says="a NUL \\x00 and half a pair \\ud83d"),
    "hard time limit and requeued": Way(
        "tests.overrun_requeued", Cause.POISON, "PoisonMessage", acks=(LATE,), starts=2, says="begun 2 times"
    ),
    "process killed and requeued": Way("tests.vanish_requeued", Cause.POISON, "PoisonMessage", acks=(LATE,), starts=3),
    "process killed of a task that may start once": Way(
        "tests.vanish_once", Cause.POISON, "PoisonMessage", acks=(LATE,), starts=1
    ),
    "process killed and retried": Way(
        "tests.vanish_retried", Cause.WORKER_LOST, "WorkerLostError", acks=(LATE,), starts=2, retries=1
    ),
    "Reject that requeues": Way("tests.reject_late", Cause.POISON, "PoisonMessage", acks=(LATE,), starts=3),
    "on_failure hook raises": Way(
        "tests.hooked", Cause.EXCEPTION, "LookupError", acks=(LATE,), args=(True,), says="in the task's on_failure hook: "
    ),
    "expired": Way(
        "tests.echo", Cause.EXPIRED, "TaskRevokedError", acks=(LATE,), args=(1,),
        options={"expires": datetime.now(UTC) - timedelta(seconds=5)},
    ),
    "unregistered": Way("tests.nobody_knows", Cause.UNKNOWN_TASK, "NotRegistered", acks=(LATE,)),
    "eta centuries away": Way(
        "tests.echo", Cause.INVALID, "InvalidTaskError", acks=(LATE,), args=(1,), options={"eta": datetime(2900, 1, 1, tzinfo=UTC)}
    ),
}  # fmt: skip


class Dead:
    """What was sent to one broker's worker."""

    def __init__(self, worker: Worker, folder: Path) -> None:
        self.worker, self.folder = worker, folder
        self.sent = {
            (name, acks): current_app.send_task(
                way.task if acks == LATE else f"{way.task}.early", args=self.args(name), kwargs={"region": "APAC"} if way.task == "tests.die" else {},
                queue="matrix", **way.options,
            )
            for name, way in WAYS.items()
            for acks in way.acks
        }  # fmt: skip
        self.ids = {key: result.id for key, result in self.sent.items()}
        send = {"queue": "matrix"}
        self.fine = tasks.hooked.apply_async([False], **send)
        self.ignored = tasks.ignore.apply_async(**send)
        self.finished = tasks.vanish_after_success.apply_async(**send)

    def args(self, name: str) -> tuple[Any, ...]:
        return (str(self.folder / name),) if WAYS[name].starts else WAYS[name].args


@pytest.fixture(scope="module", params=["redis", pytest.param("rabbitmq", marks=pytest.mark.rabbitmq)])
def dead(request, django_db_setup, django_db_blocker, tmp_path_factory):
    # Committed for the whole module, and flushed once: the deaths take their time together.
    with django_db_blocker.unblock():
        url = request.getfixturevalue("rabbitmq_url") if request.param == "rabbitmq" else ""
        with publishing_to(url, confirm_publish=True) if url else nullcontext():
            folder = tmp_path_factory.mktemp("matrix")
            worker = Worker(folder, queue="matrix", concurrency=4, **({"BROKER_URL": url} if url else {}))
            try:
                yield Dead(worker, folder)
            finally:
                worker.stop()
                call_command("flush", interactive=False, verbosity=0)


@pytest.mark.parametrize(("name", "acks"), [(name, acks) for name, way in WAYS.items() for acks in way.acks])
def test_a_way_of_dying_is_exactly_one_letter(dead, name, acks):
    way, task_id = WAYS[name], dead.ids[name, acks]
    letter = eventually(lambda: DeadLetter.objects.filter(task_id=task_id).first(), what="a letter")
    assert (letter.cause, letter.exception_type, letter.retries) == (way.cause, way.exception, way.retries)
    assert way.says in letter.exception_message
    assert letter.state == State.OPEN
    assert (letter.worker, letter.queue) == (dead.worker.name, "matrix")
    arguments = Envelope.of(letter).arguments()
    assert arguments.args == list(dead.args(name))
    if way.starts:
        assert (dead.folder / name).read_text() == "started\n" * way.starts
    assert letter.received_at is None or letter.received_at <= letter.died_at
    if way.cause != Cause.INVALID:
        status = "REVOKED" if way.cause == Cause.EXPIRED else "FAILURE"
        assert eventually(lambda: TaskResult.objects.filter(task_id=task_id, status=status).first(), what=status)
    assert letter.events.filter(kind=Event.Kind.DIED).count() == letter.deaths == 1


def test_the_worker_has_survived_them_all(dead):
    eventually(lambda: DeadLetter.objects.filter(task_id__in=dead.ids.values()).count() == len(dead.ids))
    assert dead.worker.alive
    assert tasks.echo.apply_async([1], queue="matrix").get(timeout=30) == 1
    assert DeadLetter.objects.count() == Event.objects.filter(kind=Event.Kind.DIED).count() == len(dead.ids)


def test_an_on_success_hook_that_raises_is_no_death(dead):
    assert dead.fine.get(timeout=60) == "fine"
    assert not DeadLetter.objects.filter(task_id=dead.fine.id).exists()


def test_ignore_is_an_end_on_purpose_and_nobody_waits_for_it(dead):
    with pytest.raises(TaskRevokedError, match="on purpose"):
        dead.ignored.get(timeout=60)
    assert not DeadLetter.objects.filter(task_id=dead.ignored.id).exists()


def test_a_task_whose_process_was_lost_after_it_had_finished_is_not_dead(dead):
    eventually(lambda: f"[{dead.finished.id}] succeeded before the worker was lost" in dead.worker.output)
    assert dead.finished.get(timeout=60) == "done"
    assert not DeadLetter.objects.filter(task_id=dead.finished.id).exists()


def test_nothing_is_noted_any_more_of_what_has_ended(dead):
    eventually(lambda: DeadLetter.objects.filter(task_id__in=dead.ids.values()).count() == len(dead.ids))
    eventually(lambda: not EarlyStart.objects.exists())
    # What may start once is remembered for a day: its acknowledgement may be lost.
    once = dead.ids["process killed of a task that may start once", LATE]
    eventually(lambda: not Starts.objects.exclude(task_id=once).exists())


def test_the_envelope_of_a_chord_part_is_the_whole_message(dead):
    part = tasks.die.s("first", region="APAC").set(
        queue="matrix", priority=4, headers={"tenant": "t-1"}, link=tasks.echo.si("linked"), link_error=tasks.echo.si("errback"),
        soft_time_limit=20, time_limit=30, expires=datetime.now(UTC) + timedelta(hours=1),
    )  # fmt: skip
    part.stamp(batch="b-1")
    body = tasks.collect.s().set(queue="matrix")
    chord([tasks.echo.si(1).set(queue="matrix"), part])(body)
    letter = eventually(lambda: DeadLetter.objects.filter(exception_message="first").first())
    envelope = Envelope.of(letter)
    arguments = envelope.arguments()
    assert (arguments.args, arguments.kwargs) == (["first"], {"region": "APAC"})
    assert arguments.embed["chord"]["task"] == "tests.collect"
    assert [link["args"] for link in arguments.embed["callbacks"]] == [["linked"]]
    assert ["errback"] in [errback["args"] for errback in arguments.embed["errbacks"]]
    headers = envelope.headers
    assert (headers["tenant"], headers["timelimit"], headers["group_index"]) == ("t-1", [30, 20], 1)
    assert (headers["group"], headers["root_id"], headers["id"]) == (letter.group_id, letter.root_id, letter.task_id)
    assert (headers["stamps"]["batch"], headers["expires"] is not None) == ("b-1", True)
    assert (envelope.properties["priority"], letter.priority) == (4, 4)
    assert (envelope.queue, envelope.routing_key) == ("matrix", "matrix")
    assert (envelope.content_type, envelope.content_encoding) == ("application/json", "utf-8")
    assert "ValueError: first" in letter.traceback
    assert letter.received_at <= letter.started_at <= letter.died_at
