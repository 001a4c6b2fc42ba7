"""`python -m benchmarks.results`: succeeding no-op tasks, drained by two worker processes, ours and the peers' in one call.

Starts its own PostgreSQL and Redis, with the durability they have by default. RQ is installed into a venv of the benchmark's own.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import redis
from celery import Celery

from benchmarks.measure import alternate, table, versions, write
from config.embedded import PostgreSQL, Redis, free_port, new_password

ROOT = Path(__file__).resolve().parent.parent
# Seconds after which a round has hung.
PATIENCE = 600
OURS = "Redeliver, PostgreSQL results"
REDIS_RESULTS, REUSED = "Celery, Redis results", "Celery, django-celery-results, connection reused"
INSTALLED, CEILING = "Celery, django-celery-results as installed", "Celery, ignore_result (the ceiling)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """The servers of one run, and how many tasks a round drains."""

    folder: Path
    postgresql: PostgreSQL
    redis: Redis
    tasks: int


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the table, write the JSON."""
    options = _options().parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="redeliver-benchmark-") as name, _stage(Path(name), options.tasks) as stage:
        contestants: dict[str, Callable[[], float]] = {
            OURS: partial(_ours, stage),
            "Redeliver, PostgreSQL results, while Flower listens": partial(_ours, stage, "benchmarks.ours_with_events"),
            REDIS_RESULTS: partial(_peer, stage, f"{stage.redis.url[:-1]}1"),
            REUSED: partial(_peer, stage, "django", PEER_REUSE="1"),
            INSTALLED: partial(_peer, replace(stage, tasks=stage.tasks // 4), "django"),
            CEILING: partial(_peer, stage, "ignore"),
        }
        if not options.no_venv:
            contestants["RQ, two workers"] = partial(
                _rq, replace(stage, tasks=stage.tasks // 4), _rq_python(stage.folder)
            )
        lines = alternate(contestants, options.rounds)
    print(table(lines, "tasks/s", OURS, [REDIS_RESULTS, REUSED, INSTALLED, CEILING]))
    write(
        options.json,
        lines,
        versions=versions("celery", "django-celery-results", "redis", "psycopg"),
        tasks=options.tasks,
    )


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=4_000, help="tasks a round (a quarter for the slow ones)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds, each with all contestants")
    parser.add_argument("--json", type=Path, default=Path("benchmark-results.json"), help="where all figures go")
    parser.add_argument("--no-venv", action="store_true", help="leave out the peers that must be installed")
    return parser


@contextmanager
def _stage(folder: Path, tasks: int) -> Iterator[Stage]:
    folder.chmod(0o711)
    postgresql = PostgreSQL(folder / "postgresql", port=free_port(), password=new_password())
    server = Redis(folder / "redis", port=free_port(), password=new_password())
    try:
        postgresql.start()
        server.start()
        stage = Stage(folder=folder, postgresql=postgresql, redis=server, tasks=tasks)
        with postgresql._connect() as connection:
            connection.execute("CREATE DATABASE peer")
        _run([sys.executable, "manage.py", "migrate", "-v", "0"], _environment(stage))
        migrate = "import benchmarks.peers.celery_app; from django.core.management import call_command; call_command('migrate', verbosity=0)"
        _run([sys.executable, "-c", migrate], _peer_environment(stage, "django"))
        yield stage
    finally:
        server.stop()
        postgresql.stop()


def _ours(stage: Stage, app: str = "config") -> float:
    _fill(stage, "default")
    command = [*_celery(app), "--include", "benchmarks.noop", "-Q", "default"]
    return _drain(stage, [command], _environment(stage), "default")


def _peer(stage: Stage, results: str, **extra: str) -> float:
    _fill(stage, "celery")
    environment = _peer_environment(stage, results, **extra)
    return _drain(stage, [_celery("benchmarks.peers.celery_app")], environment, "celery")


def _rq(stage: Stage, python: str) -> float:
    queue = f"from redis import Redis; from rq import Queue; q = Queue(connection=Redis.from_url({stage.redis.url!r}))"
    call = f"[q.enqueue('benchmarks.peers.rq_tasks.noop', n) for n in range({stage.tasks})]"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    _run([python, "-c", f"{queue}; {call}"], environment)
    worker = [python, "-m", "rq.cli", "worker", "--url", stage.redis.url, "--quiet"]
    return _drain(stage, [worker, worker], environment, "rq:queue:default")


def _celery(app: str) -> list[str]:
    return [sys.executable, "-m", "celery", "-A", app, "worker", "-c", "2", "--loglevel", "ERROR", "--without-mingle"]


def _fill(stage: Stage, queue: str) -> None:
    client = Celery("filler", broker=stage.redis.url, set_as_current=False)
    with client.producer_pool.acquire(block=True) as producer:
        for number in range(stage.tasks):
            client.send_task("benchmarks.noop", [number], queue=queue, producer=producer)
    client.close()


def _drain(stage: Stage, commands: list[list[str]], environment: dict[str, str], queue: str) -> float:
    """Tasks a second, from the time when a tenth is done (the workers are warm) until nothing is queued or unacknowledged."""
    client = redis.Redis.from_url(stage.redis.url)
    with (stage.folder / "log").open("ab") as log:
        workers = [
            subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True)
            for command in commands
        ]
        try:
            warm = stage.tasks - stage.tasks // 10
            begun = _when(lambda: client.llen(queue) <= warm)
            left = int(client.llen(queue))
            ended = _when(lambda: not client.llen(queue) and not client.hlen("unacked"))
        finally:
            for worker in workers:
                worker.terminate()
            for worker in workers:
                worker.wait(60)
            client.flushall()
    return left / (ended - begun)


def _when(ask: Callable[[], object]) -> float:
    deadline = time.monotonic() + PATIENCE
    while not ask():
        if time.monotonic() > deadline:
            raise SystemExit("The workers have not drained the queue; see the log in the benchmark's folder.")
        time.sleep(0.005)
    return time.monotonic()


def _environment(stage: Stage) -> dict[str, str]:
    return {
        **os.environ, "SECRET_KEY": "of-a-benchmark", "HTTPS": "false", "VAR_DIR": str(stage.folder / "var"), "LOG_LEVEL": "ERROR",
        "DATABASE_URL": stage.postgresql.url, "BROKER_URL": stage.redis.url,
    }  # fmt: skip


def _peer_environment(stage: Stage, results: str, **extra: str) -> dict[str, str]:
    database = stage.postgresql.url_of("peer")
    return {**os.environ, "PEER_BROKER": stage.redis.url, "PEER_DATABASE": database, "PEER_RESULTS": results, **extra}


def _rq_python(folder: Path) -> str:
    venv.create(folder / "venv", with_pip=True)
    python = str(folder / "venv" / "bin" / "python")
    _run(
        [python, "-m", "pip", "install", "--quiet", "-r", str(ROOT / "benchmarks" / "requirements.txt")],
        dict(os.environ),
    )
    return python


def _run(command: list[str], environment: dict[str, str]) -> None:
    subprocess.run(command, cwd=ROOT, env=environment, check=True)


if __name__ == "__main__":
    main()
