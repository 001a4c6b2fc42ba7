"""Real processes of the platform for the tests: workers, beat, commands."""

import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connection

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 60.0  # seconds; these machines stall


def environment(**extra: str) -> dict[str, str]:
    """The test's environment, with the test's database in the place of the server's first one."""
    database = settings.DATABASES["default"]
    url = (
        f"postgres://{database['USER']}:{database['PASSWORD']}@{database['HOST']}:{database['PORT']}/{database['NAME']}"
    )
    return {**os.environ, "DATABASE_URL": url, "PYTHONUNBUFFERED": "1", **extra}


def eventually(ask: Callable[[], Any], patience: float = PATIENCE, what: str | Callable[[], str] = "") -> Any:
    """What `ask` returns as soon as it is true; fails after `patience` seconds."""
    deadline = time.monotonic() + patience
    while not (answer := ask()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {patience:.0f} s: {what() if callable(what) else what or ask}")
        time.sleep(0.05)
    return answer


def waits_for_a_lock(statement: str) -> bool:
    """Whether PostgreSQL has a statement like this one (SQL's `%`) that waits for a lock."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_clear_snapshot()")
        cursor.execute(
            "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE %s", [f"{statement}%"]
        )
        return cursor.fetchone() is not None


class Process:
    """A command of ours in the background, with its output in a file."""

    def __init__(self, *command: str, log: Path, **extra: str) -> None:
        self.log = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, *command],
                cwd=ROOT,
                env=environment(**extra),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def wait_for(self, text: str, patience: float = PATIENCE) -> None:
        """Until the output holds `text`; shows the output when it ends or takes too long."""
        deadline = time.monotonic() + patience
        while text not in self.output:
            if not self.alive or time.monotonic() > deadline:
                raise AssertionError(f"{text!r} was never said:\n{self.output[-4000:]}")
            time.sleep(0.05)

    def stop(self, number: int = signal.SIGTERM, patience: float = 30) -> int:
        """Signal it, wait, and kill the rest of its session (a SIGKILLed worker leaves children)."""
        if self.alive:
            self.process.send_signal(number)
        try:
            self.process.wait(patience)
        except subprocess.TimeoutExpired:
            pass
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        return self.process.returncode


class Worker(Process):
    """A Celery worker that knows the tasks of tests/tasks.py."""

    def __init__(
        self, folder: Path, *arguments: str, queue: str = "default", concurrency: int = 2, **extra: str
    ) -> None:
        self.name = f"test-{uuid.uuid4().hex[:8]}@localhost"
        super().__init__(
            "-m", "celery", "-A", "config", "worker", "--include", "tests.tasks", "-Q", queue, "-n", self.name, "-c", str(concurrency),
            "--loglevel", "INFO", *arguments, log=folder / f"{self.name}.log", **extra,
        )  # fmt: skip
        self.wait_for(" ready.")


def manage(*arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
    """Run `manage.py …` to its end and return what it said."""
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env=environment(**extra),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
