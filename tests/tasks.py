"""Tasks that only the tests' workers know. Each dies in its own way."""

import contextlib
import ctypes
import json
import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path

from celery import chain, shared_task
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded

from deadletters.capture.task import DeadLetterTask


@shared_task(name="tests.echo")
def echo(value):
    return value


@shared_task(name="tests.sleep")
def sleep(seconds):
    time.sleep(seconds)
    return seconds


@shared_task(name="tests.note", bind=True)
def note(self, *received, label, log):
    """Writes down its id, its label and what it was given; returns its label."""
    with Path(log).open("a") as lines:
        lines.write(json.dumps([self.request.id, label, list(received)]) + "\n")
    return label


@shared_task(name="tests.add")
def add(a, b):
    return a + b


@shared_task(name="tests.collect")
def collect(values):
    return values


@shared_task(name="tests.collect_with")
def collect_with(values, given):
    return [values, given]


@shared_task(name="tests.die")
def die(message="no luck", **_):
    raise ValueError(message)


@shared_task(name="tests.die_unless")
def die_unless(path, value=None):
    """Dies until the file is there: what a person mends before a replay."""
    if not Path(path).exists():
        raise FileNotFoundError(f"{path} is missing")
    return value if value is not None else Path(path).read_text()


@shared_task(name="tests.count_run")
def count_run(values, path):
    """Leaves one line a run, so that a test can count runs."""
    with Path(path).open("a") as file:
        file.write(json.dumps(values) + "\n")
    return values


@shared_task(name="tests.retry_with", bind=True, max_retries=2)
def retry_with(self):
    try:
        raise ConnectionError("the other side hung up")
    except ConnectionError as problem:
        raise self.retry(exc=problem, countdown=0.2) from problem


@shared_task(name="tests.retry_slowly", bind=True, max_retries=1)
def retry_slowly(self):
    """Works for two seconds, then wants to be tried again."""
    time.sleep(2)
    raise self.retry(countdown=0)


@shared_task(name="tests.once_more", bind=True)
def once_more(self, seconds):
    """Works for a while, and wants to be tried again, once."""
    time.sleep(seconds)
    if not self.request.retries:
        raise self.retry(countdown=0)
    return "the second time"


@shared_task(name="tests.retry_bare", bind=True, max_retries=1)
def retry_bare(self):
    raise self.retry(countdown=0.2)


@shared_task(name="tests.overrun_soft", soft_time_limit=1, time_limit=20)
def overrun_soft():
    time.sleep(15)


@shared_task(name="tests.overrun_hard", soft_time_limit=1, time_limit=2)
def overrun_hard():
    """Does not listen to the soft limit."""
    with contextlib.suppress(SoftTimeLimitExceeded):
        time.sleep(15)
    time.sleep(15)


@shared_task(name="tests.vanish")
def vanish(path=""):
    """The process ends at once, as under the kernel's out-of-memory killer, unless the file is there."""
    if not path or not Path(path).exists():
        os.kill(os.getpid(), signal.SIGKILL)
    return "alive"


@shared_task(name="tests.run_out_of_memory")
def run_out_of_memory():
    raise MemoryError


@shared_task(name="tests.reject")
def reject():
    raise Reject("not for me", requeue=False)


@shared_task(name="tests.reject_early", acks_late=False)
def reject_early():
    raise Reject("put it back", requeue=True)


@shared_task(name="tests.ignore")
def ignore():
    raise Ignore


@shared_task(name="tests.unencodable")
def unencodable():
    return object()


@shared_task(name="tests.nul")
def nul():
    raise ValueError("a NUL \x00 and half a pair \ud83d")


@shared_task(name="tests.boom_callback")
def boom_callback(path, *_, **__):
    """An errback: leaves a line."""
    with Path(path).open("a") as file:
        file.write("errback\n")


class Speechless(Exception):
    def __str__(self):
        return self.args[5]


@shared_task(name="tests.speechless")
def speechless():
    raise Speechless("one argument only")


@shared_task(name="tests.replace", bind=True)
def replace(self, path, other):
    """Dies unless `path` is there; then another task takes its place, which dies unless `other` is there."""
    if not Path(path).exists():
        raise FileNotFoundError(path)
    raise self.replace(chain(echo.si(1), die_unless.si(other, 7)))


# Acknowledged as soon as they start, for the deaths that differ with it.
for _task in (
    die,
    retry_with,
    retry_bare,
    overrun_soft,
    overrun_hard,
    vanish,
    run_out_of_memory,
    speechless,
    reject,
    unencodable,
    nul,
):
    shared_task(
        name=f"{_task.name}.early", bind=hasattr(_task, "max_retries") and _task.name.startswith("tests.retry"), acks_late=False,
        max_retries=_task.max_retries, soft_time_limit=_task.soft_time_limit, time_limit=_task.time_limit,
    )(getattr(_task.__wrapped__, "__func__", _task.__wrapped__))  # fmt: skip


@shared_task(name="tests.anything")
def anything(*args, **kwargs):
    return {"args": list(args), "kwargs": kwargs}


@shared_task(name="tests.total")
def total(first, second, *, times=1):
    return (first + second) * times


@shared_task(name="tests.replace_by_sleep", bind=True)
def replace_by_sleep(self, seconds):
    raise self.replace(sleep.si(seconds))


@shared_task(name="tests.sleep_silently", ignore_result=True)
def sleep_silently(seconds):
    time.sleep(seconds)


@shared_task(name="tests.pay", redact=("account",))
def pay(holder, account, token, path="", **details):
    """Dies with its secrets on its lips until `path` is there; then it writes down what it was given."""
    logging.getLogger("tests.pay").warning("paying from %s with %s", account, token)
    if not Path(path).exists():
        secret = details["password"]
        raise ValueError(
            f"{holder}: {account} was refused, password={secret}, see postgres://bob:{secret}@db.example/pay"
        )
    Path(path).write_text(json.dumps([holder, account, token, details]))


@shared_task(name="tests.member", bind=True)
def member(self, *received, label, folder):
    """One step of a canvas. Dies as the next line of `folder/label` says; without one it leaves a line and says what it was given."""
    place = Path(folder)
    fates = place / label
    with contextlib.suppress(FileNotFoundError):
        first, *rest = fates.read_text().split() or [""]
        fates.write_text("\n".join(rest))
        if first:
            _die(first)
    with (place / "ran").open("a") as ran:
        ran.write(label + "\n")
    if label.startswith("replace"):
        after = chain(member.s(label=f"a-{label}", folder=folder), member.s(label=f"b-{label}", folder=folder))
        raise self.replace(after)
    return [label, *received]


def _die(fate):
    match fate:
        case "raise":
            raise ValueError("as told")
        case "reject":
            raise Reject("as told", requeue=False)
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "overrun":
            raise SoftTimeLimitExceeded
        case "memory":
            raise MemoryError


@shared_task(name="tests.typed")
def typed(count: int, name: str, ratio: float = 0.5, deep: bool = False, rest=None):
    return [count, name, ratio, deep, rest]


@shared_task(name="tests.hold", bind=True)
def hold(self, log, release):
    """Leaves a line as it starts, and waits until the other file is there."""
    with Path(log).open("a") as lines:
        lines.write(f"{self.request.hostname} {os.getpid()}\n")
    while not Path(release).exists():
        time.sleep(0.05)
    return "held"


shared_task(name="tests.hold.early", bind=True, acks_late=False)(hold.__wrapped__.__func__)
shared_task(name="tests.hold.once", bind=True, max_deliveries=1)(hold.__wrapped__.__func__)


def _with_early(name, run, **options):
    """The task, and a twin that is acknowledged as soon as it starts."""
    shared_task(name=f"{name}.early", acks_late=False, **options)(run)
    return shared_task(name=name, **options)(run)


def _segfault():
    ctypes.string_at(0)


def _raises(exception):
    def run():
        raise exception

    return run


class Unpicklable(Exception):
    def __init__(self, first, second):
        super().__init__(first, second)
        self.lock = threading.Lock()


def _die_with_secrets():
    raise ValueError("no luck")


def _exit_at_once():
    os._exit(3)


def _sys_exit():
    sys.exit(3)


def _cannot_travel():
    raise Unpicklable("one", "two")


segfault = _with_early("tests.segfault", _segfault)
exit_at_once = _with_early("tests.exit_at_once", _exit_at_once)
sys_exit = _with_early("tests.sys_exit", _sys_exit)
interrupt = _with_early("tests.interrupt", _raises(KeyboardInterrupt()))
generator_exit = _with_early("tests.generator_exit", _raises(GeneratorExit()))
# Its rule can be neither followed nor passed over.
misruled = _with_early("tests.misruled", _die_with_secrets, redact=5)
cannot_travel = _with_early("tests.cannot_travel", _cannot_travel)
autoretry = _with_early(
    "tests.autoretry", _raises(TimeoutError("no answer")), autoretry_for=(TimeoutError,), max_retries=1, retry_backoff=False,
    default_retry_delay=0.2,
)  # fmt: skip


@shared_task(
    name="tests.overrun_requeued", soft_time_limit=1, time_limit=2, acks_on_failure_or_timeout=False, max_deliveries=2
)
def overrun_requeued(log):
    """Goes back to its queue whenever its time is over."""
    _line(log)
    with contextlib.suppress(SoftTimeLimitExceeded):
        time.sleep(15)
    time.sleep(15)


@shared_task(name="tests.vanish_requeued", reject_on_worker_lost=True)
def vanish_requeued(log):
    _line(log)
    os.kill(os.getpid(), signal.SIGKILL)


@shared_task(name="tests.vanish_once", reject_on_worker_lost=True, max_deliveries=1)
def vanish_once(log):
    _line(log)
    os.kill(os.getpid(), signal.SIGKILL)


@shared_task(name="tests.vanish_retried", retry_on_worker_lost=True, max_retries=1, default_retry_delay=0)
def vanish_retried(log):
    _line(log)
    # Of a process that is gone before its start was heard of, Celery's pool gives the job to another one, and counts no retry.
    time.sleep(1)
    os.kill(os.getpid(), signal.SIGKILL)


@shared_task(name="tests.reject_late")
def reject_late(log):
    _line(log)
    raise Reject("put it back", requeue=True)


@shared_task(name="tests.vanish_after_success", bind=True)
def vanish_after_success(self):
    """Stores its result; its process is lost before the worker hears of it."""
    self.backend.mark_as_done(self.request.id, "done", self.request)
    os.kill(os.getpid(), signal.SIGKILL)


class Hooked(DeadLetterTask):
    abstract = True

    def on_success(self, *_):
        raise LookupError("in on_success")

    def on_failure(self, *_):
        raise LookupError("in on_failure")


@shared_task(name="tests.hooked", base=Hooked)
def hooked(dies):
    if dies:
        raise ValueError("its own")
    return "fine"


@shared_task(name="tests.mute", bind=True, max_retries=3)
def mute(self, retries=False):
    """Cuts its process off from the broker; run it where a process lives for one task."""
    # Celery's command line puts BROKER_URL there, and there it comes first.
    os.environ["CELERY_BROKER_URL"] = f"{self.app.conf.broker_url.partition('//')[0]}//127.0.0.1:1/0"
    self.app._pool = self.app.amqp._producer_pool = None
    if retries:
        raise self.retry(countdown=0)
    return 1


@shared_task(name="tests.kill_worker", max_deliveries=2)
def kill_worker(log):
    """Takes the whole worker down with it."""
    _line(log)
    os.kill(os.getppid(), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


def _line(log):
    with Path(log).open("a") as lines:
        lines.write("started\n")
