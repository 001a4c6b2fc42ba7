"""The platform under test: servers, workers and a beat of its own, on free ports, in one temporary folder."""

import contextlib
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from config.embedded import PostgreSQL, Redis, free_port, new_password

ROOT = Path(__file__).resolve().parent.parent.parent
# What a minute of a real platform does, a soak of a minute does several times.
SWEEP_SECONDS = 5


class Server(Protocol):
    """What can be killed and started again."""

    def start(self) -> None: ...


class Process:
    """A command that is started again whenever it ended, as a supervisor would."""

    def __init__(self, folder: Path, name: str, *command: str) -> None:
        self.name, self.command, self.log = name, command, folder / f"{name}.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.starts = 0
        self._starting = threading.Lock()

    def keep(self) -> None:
        """Start it unless it runs. Both the soak and the monkey do: unlocked, one of two that were started would be nobody's."""
        with self._starting:
            if self.process and self.process.poll() is None:
                return
            self.end(signal.SIGKILL)
            self.starts += 1
            with self.log.open("ab") as output:
                self.process = subprocess.Popen(
                    [sys.executable, "-m", "celery", "--quiet", "-A", "config", *self.command],
                    cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
                )  # fmt: skip

    def end(self, number: int, patience: float = 30) -> None:
        """Signal it; after `patience` seconds, and for what it leaves behind, SIGKILL."""
        if self.process is None:
            return
        if self.process.poll() is None and number != signal.SIGKILL:
            self.process.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(patience)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Stage:
    """All of it."""

    def __init__(self, folder: Path, broker: str, workers: int) -> None:
        self.folder = folder
        self.broker_name = broker
        self.postgresql = PostgreSQL(folder / "postgresql", port=free_port(), password=new_password())
        self.broker = _broker(broker, folder)
        self.ledger, self.mended = folder / "ledger", folder / "mended"
        self.workers = [
            Process(
                folder, f"worker{number}", "worker", "--include", "tests.chaos.tasks", "-n", f"worker{number}@localhost",
                "-c", "2", "--loglevel", "INFO",
            )
            for number in range(workers)
        ]  # fmt: skip
        self.beat = Process(folder, "beat", "beat", "--loglevel", "INFO", "--schedule", str(folder / "beat"))

    def environment(self, extra: Mapping[str, str]) -> dict[str, str]:
        return {
            "VAR_DIR": str(self.folder), "SECRET_KEY": new_password(), "HTTPS": "false", "LOG_FORMAT": "console",
            "DATABASE_URL": self.postgresql.url, "BROKER_URL": self.broker.url, "RETRY_BACKOFF_MAX": "1",
            "STORAGE_URL": f"file://{self.folder}/storage", "UPLOAD_URL": f"file://{self.folder}/uploads",
            "SOAK_LEDGER": str(self.ledger), "SOAK_MENDED": str(self.mended), "PYTHONUNBUFFERED": "1", **extra,
        }  # fmt: skip

    def keep(self) -> None:
        """Start what does not run."""
        for process in (*self.workers, self.beat):
            process.keep()


@contextmanager
def platform(broker: str, *, workers: int, keep: Path | None = None, **extra: str) -> Iterator[Stage]:
    """Servers are up, Django is set up in this process, tables and schedules are there; workers are the caller's to start.

    `keep` receives the logs and the ledger at the end.
    """
    with tempfile.TemporaryDirectory(prefix="redeliver-soak-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o711)
        stage = Stage(folder, broker, workers)
        try:
            stage.postgresql.start()
            stage.broker.start()
            _set_up(stage, extra)
            yield stage
        finally:
            for process in (stage.beat, *stage.workers):
                process.end(signal.SIGTERM)
            stage.broker.stop()
            stage.postgresql.stop()
            if keep:
                keep.mkdir(parents=True, exist_ok=True)
                for file in (*folder.glob("*.log"), stage.ledger):
                    if file.exists():
                        shutil.copy(file, keep)


def _set_up(stage: Stage, extra: Mapping[str, str]) -> None:
    from config.environment import Environment

    for name in Environment.model_fields:
        os.environ.pop(name, None)
    os.environ.update(stage.environment(extra), DJANGO_SETTINGS_MODULE="config.settings")
    import django

    django.setup()
    logging.getLogger().setLevel(logging.ERROR)  # the soak's own lines are what a person reads
    from django.core.management import call_command

    call_command("prepare", verbosity=0, stdout=open(os.devnull, "w"))  # noqa: SIM115, PTH123
    from django_celery_beat.models import IntervalSchedule, PeriodicTask, PeriodicTasks

    often, _ = IntervalSchedule.objects.get_or_create(every=SWEEP_SECONDS, period=IntervalSchedule.SECONDS)
    sweeps = PeriodicTask.objects.filter(task__contains="sweep")
    sweeps.update(interval=often, crontab=None)
    PeriodicTask.objects.exclude(pk__in=sweeps).update(enabled=False)
    PeriodicTasks.update_changed()


def _broker(name: str, folder: Path):
    if name == "redis":
        # What it has confirmed must outlive it: with everysec a write may wait for two seconds, and its answer does not.
        return Redis(folder / "redis", port=free_port(), password=new_password(), fsync="always")
    from tests.rabbitmq import RabbitMQ

    (folder / "rabbitmq").mkdir()
    return RabbitMQ(folder / "rabbitmq")
