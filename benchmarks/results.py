"""`python -m benchmarks.results`: succeeding no-op tasks, drained by two worker processes, ours and the peers' in one call.

Starts its own PostgreSQL and Redis, with the durability they have by default. RQ is installed into a venv of the benchmark's own.
"""

import argparse
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from celery import Celery

from benchmarks.measure import alternate, table, versions, write
from benchmarks.stage import ROOT, Stage, celery, drain, our_environment, peer_environment, rq_python, run, staged

OURS = "Redeliver, PostgreSQL results"
REDIS_RESULTS, REUSED = "Celery, Redis results", "Celery, django-celery-results, connection reused"
INSTALLED, CEILING = "Celery, django-celery-results as installed", "Celery, ignore_result (the ceiling)"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the table, write the JSON."""
    options = _options().parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="redeliver-benchmark-") as name, staged(Path(name), options.tasks) as stage:
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
                _rq, replace(stage, tasks=stage.tasks // 4), rq_python(stage.folder)
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


def _ours(stage: Stage, app: str = "config") -> float:
    _fill(stage, "default")
    command = [*celery(app), "--include", "benchmarks.noop", "-Q", "default"]
    return drain(stage, [command], our_environment(stage), "default")


def _peer(stage: Stage, results: str, **extra: str) -> float:
    _fill(stage, "celery")
    environment = peer_environment(stage, results, **extra)
    return drain(stage, [celery("benchmarks.peers.celery_app")], environment, "celery")


def _rq(stage: Stage, python: str) -> float:
    queue = f"from redis import Redis; from rq import Queue; q = Queue(connection=Redis.from_url({stage.redis.url!r}))"
    call = f"[q.enqueue('benchmarks.peers.rq_tasks.noop', n) for n in range({stage.tasks})]"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run([python, "-c", f"{queue}; {call}"], environment)
    worker = [python, "-m", "rq.cli", "worker", "--url", stage.redis.url, "--quiet"]
    return drain(stage, [worker, worker], environment, "rq:queue:default")


def _fill(stage: Stage, queue: str) -> None:
    client = Celery("filler", broker=stage.redis.url, set_as_current=False)
    with client.producer_pool.acquire(block=True) as producer:
        for number in range(stage.tasks):
            client.send_task("benchmarks.noop", [number], queue=queue, producer=producer)
    client.close()


if __name__ == "__main__":
    main()
