"""The servers and workers of the benchmarks that drain a queue: set up once a run, with the durability that they have by default."""

import os
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis

from config.embedded import PostgreSQL, Redis, free_port, new_password

ROOT = Path(__file__).resolve().parent.parent
# Seconds after which a round has hung.
PATIENCE = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """The servers of one run, and how many tasks a round drains."""

    folder: Path
    postgresql: PostgreSQL
    redis: Redis
    tasks: int


@contextmanager
def staged(folder: Path, tasks: int) -> Iterator[Stage]:
    """PostgreSQL and Redis below `folder`, with our tables and the peers'; stopped at the end."""
    folder.chmod(0o711)
    postgresql = PostgreSQL(folder / "postgresql", port=free_port(), password=new_password())
    server = Redis(folder / "redis", port=free_port(), password=new_password())
    try:
        postgresql.start()
        server.start()
        stage = Stage(folder=folder, postgresql=postgresql, redis=server, tasks=tasks)
        with postgresql._connect() as connection:
            connection.execute("CREATE DATABASE peer")
        run([sys.executable, "manage.py", "migrate", "-v", "0"], our_environment(stage))
        migrate = "import benchmarks.peers.celery_app; from django.core.management import call_command; call_command('migrate', verbosity=0)"
        run([sys.executable, "-c", migrate], peer_environment(stage, "django"))
        yield stage
    finally:
        server.stop()
        postgresql.stop()


def celery(app: str) -> list[str]:
    """The command of a worker with two processes."""
    return [sys.executable, "-m", "celery", "-A", app, "worker", "-c", "2", "--loglevel", "ERROR", "--without-mingle"]


def drain(stage: Stage, commands: list[list[str]], environment: dict[str, str], queue: str) -> float:
    """Tasks a second, from the time when a tenth is done (the workers are warm) until nothing is queued or unacknowledged."""
    client = redis.Redis.from_url(stage.redis.url)
    with (stage.folder / "log").open("ab") as log:
        workers = [
            subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True)
            for command in commands
        ]
        try:
            warm = stage.tasks - stage.tasks // 10
            begun = when(lambda: client.llen(queue) <= warm)
            left = int(client.llen(queue))
            ended = when(lambda: not client.llen(queue) and not client.hlen("unacked"))
        finally:
            for worker in workers:
                worker.terminate()
            for worker in workers:
                worker.wait(60)
            client.flushall()
    return left / (ended - begun)


def when(ask: Callable[[], object]) -> float:
    """The moment (monotonic seconds) at which `ask` becomes true; ends the run if it never does."""
    deadline = time.monotonic() + PATIENCE
    while not ask():
        if time.monotonic() > deadline:
            raise SystemExit("The workers have not drained the queue; see the log in the benchmark's folder.")
        time.sleep(0.005)
    return time.monotonic()


def our_environment(stage: Stage) -> dict[str, str]:
    """The environment of our own processes."""
    return {
        **os.environ, "SECRET_KEY": "of-a-benchmark", "HTTPS": "false", "VAR_DIR": str(stage.folder / "var"), "LOG_LEVEL": "ERROR",
        "DATABASE_URL": stage.postgresql.url, "BROKER_URL": stage.redis.url,
    }  # fmt: skip


def peer_environment(stage: Stage, results: str, **extra: str) -> dict[str, str]:
    """The environment of a peer's processes; `results` is its result backend."""
    database = stage.postgresql.url_of("peer")
    return {**os.environ, "PEER_BROKER": stage.redis.url, "PEER_DATABASE": database, "PEER_RESULTS": results, **extra}


def rq_python(folder: Path) -> str:
    """A Python with RQ, in a venv of the benchmark's own."""
    venv.create(folder / "venv", with_pip=True)
    python = str(folder / "venv" / "bin" / "python")
    run(
        [python, "-m", "pip", "install", "--quiet", "-r", str(ROOT / "benchmarks" / "requirements.txt")],
        dict(os.environ),
    )
    return python


def run(command: list[str], environment: dict[str, str]) -> None:
    """Run it to its end, or end with it."""
    subprocess.run(command, cwd=ROOT, env=environment, check=True)
