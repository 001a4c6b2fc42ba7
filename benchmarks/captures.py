"""`python -m benchmarks.captures`: failing tasks without a retry, until the failure is durable and listable, ours and the peers' in one call.

Starts its own PostgreSQL and Redis, with the durability they have by default. RQ is installed into a venv of the benchmark's own.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import psycopg
from celery import Celery

from benchmarks.measure import alternate, table, versions, write
from benchmarks.stage import ROOT, Stage, celery, drain, our_environment, peer_environment, rq_python, run, staged

OURS = "Redeliver, letter and result"
WATCHED = "Redeliver, letter and result, while Flower listens"
PREFETCHED = "Redeliver, letter and result, four messages a process prefetched as by the peers"
CEILING = "Celery, ignore_result (the ceiling: nothing is kept)"
LETTER, LETTER_REUSED = (
    f"Celery, `task_failure` handler with an ORM insert, {how}" for how in ("as installed", "connection reused")
)
RESULT, RESULT_REUSED = (f"Celery, django-celery-results, {how}" for how in ("as installed", "connection reused"))
TASK = "benchmarks.fail"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the table, write the JSON."""
    options = _options().parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="redeliver-benchmark-") as name, staged(Path(name), options.tasks) as stage:
        fewer = replace(stage, tasks=stage.tasks // 4)
        contestants: dict[str, Callable[[], float]] = {
            OURS: partial(_ours, stage),
            WATCHED: partial(_ours, stage, "benchmarks.ours_with_events"),
            PREFETCHED: partial(_ours, stage, "config", "--prefetch-multiplier", "4"),
            CEILING: partial(_peer, stage, "ignore"),
            LETTER_REUSED: partial(_peer, stage, "django", PEER_LETTERS="1", PEER_REUSE="1"),
            LETTER: partial(_peer, fewer, "django", PEER_LETTERS="1"),
            RESULT_REUSED: partial(_peer, stage, "django", PEER_REUSE="1"),
            RESULT: partial(_peer, fewer, "django"),
        }
        if not options.no_venv:
            contestants["RQ, two workers"] = partial(_rq, fewer, rq_python(stage.folder))
        lines = alternate(contestants, options.rounds)
    print(table(lines, "tasks/s", OURS, [CEILING, LETTER, LETTER_REUSED, RESULT, RESULT_REUSED, "RQ, two workers"]))
    write(
        options.json,
        lines,
        versions=versions("celery", "django-celery-results", "redis", "psycopg"),
        tasks=options.tasks,
    )


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=2_000, help="tasks a round (a quarter for the slow ones)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds, each with all contestants")
    parser.add_argument("--json", type=Path, default=Path("benchmark-captures.json"), help="where all figures go")
    parser.add_argument("--no-venv", action="store_true", help="leave out the peers that must be installed")
    return parser


def _ours(stage: Stage, app: str = "config", *options: str) -> float:
    _fill(stage, "default")
    _ask(stage, "TRUNCATE deadletters_deadletter, django_celery_results_taskresult CASCADE")
    worker = [*celery(app), "--include", "benchmarks.failing", "-Q", "default", *options]
    rate = drain(stage, [worker], our_environment(stage), "default")
    # A rate is worth nothing if something is missing.
    for kept in ("deadletters_deadletter", "django_celery_results_taskresult"):
        if (number := _ask(stage, f"SELECT count(*) FROM {kept}")) != stage.tasks:
            raise SystemExit(f"Only {number} of {stage.tasks} rows are in {kept}.")
    return rate


def _peer(stage: Stage, results: str, **extra: str) -> float:
    _fill(stage, "celery")
    return drain(stage, [celery("benchmarks.peers.failing_app")], peer_environment(stage, results, **extra), "celery")


def _rq(stage: Stage, python: str) -> float:
    queue = f"from redis import Redis; from rq import Queue; q = Queue(connection=Redis.from_url({stage.redis.url!r}))"
    call = f"[q.enqueue('benchmarks.peers.rq_tasks.fail', n) for n in range({stage.tasks})]"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run([python, "-c", f"{queue}; {call}"], environment)
    worker = [python, "-m", "rq.cli", "worker", "--url", stage.redis.url, "--quiet"]
    return drain(stage, [worker, worker], environment, "rq:queue:default")


def _fill(stage: Stage, queue: str) -> None:
    client = Celery("filler", broker=stage.redis.url, set_as_current=False)
    with client.producer_pool.acquire(block=True) as producer:
        for number in range(stage.tasks):
            client.send_task(TASK, [number], queue=queue, producer=producer)
    client.close()


def _ask(stage: Stage, query: str) -> int:
    with psycopg.connect(stage.postgresql.url, autocommit=True) as connection:
        cursor = connection.execute(query)  # type: ignore[call-overload]
        return cursor.fetchone()[0] if cursor.description else 0


if __name__ == "__main__":
    sys.exit(main())
