"""`python -m benchmarks.storm`: thousands of tasks die at once on one worker: whether its event loop goes on, and what a success pays for it.

The event loop answers a ping, which is asked again and again; the queue tells when it acknowledged. The same for tasks that succeed,
by turns. Then successes alone, with and without what captures deaths. Starts its own PostgreSQL and Redis.
"""

import argparse
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import psycopg
import redis
from celery import Celery

from benchmarks.measure import alternate, table, versions, write
from benchmarks.stage import ROOT, Stage, celery, drain, our_environment, staged

OURS = "Redeliver"
STOCK = "the same with Celery's Request and Consumer, kombu's transport"
DEAD, FINE = "benchmarks.fail", "benchmarks.noop"


@dataclass(frozen=True, slots=True, kw_only=True)
class Weather:
    """One round: tasks a second, a ping's round trip and the longest pause between two acknowledgements (milliseconds), letters made."""

    task: str
    rate: float
    ping: float
    longest_ping: float
    longest_pause: float
    letters: int


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print both tables, write the JSON."""
    options = _options().parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="redeliver-benchmark-") as name, staged(Path(name), options.tasks) as stage:
        rounds = [_storm(stage, task) for _ in range(options.rounds) for task in (DEAD, FINE)]
        lines = alternate(
            {OURS: partial(_successes, stage, "config"), STOCK: partial(_successes, stage, "benchmarks.stock_worker")},
            options.rounds,
        )
    print("| tasks that | tasks/s | ping, ms | longest ping, ms | longest without an acknowledgement, ms | letters |")
    print("|---|---|---|---|---|---|")
    for one in rounds:
        what = "die" if one.task == DEAD else "succeed"
        print(f"| {what} | {one.rate:,.0f} | {one.ping:.0f} | {one.longest_ping:.0f} | {one.longest_pause:.0f} | {one.letters:,} |")  # fmt: skip
    print()
    print(table(lines, "successes/s", OURS, [STOCK]))
    found = versions("celery", "redis", "psycopg")
    write(options.json, lines, versions=found, tasks=options.tasks, storms=[asdict(one) for one in rounds])


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=5_000, help="tasks a round")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each")
    parser.add_argument("--json", type=Path, default=Path("benchmark-storm.json"), help="where all figures go")
    return parser


def _storm(stage: Stage, task: str) -> Weather:
    client = Celery("storm", broker=stage.redis.url, set_as_current=False)
    _fill(stage, client, task)
    over, pings = threading.Event(), list[float]()
    with psycopg.connect(stage.postgresql.url, autocommit=True) as store, (stage.folder / "log").open("ab") as log:
        store.execute("TRUNCATE deadletters_deadletter, django_celery_results_taskresult CASCADE")
        command = [*celery("config"), "--include", "benchmarks.failing,benchmarks.noop", "-Q", "default"]
        worker = subprocess.Popen(
            command, cwd=ROOT, env=our_environment(stage), stdout=log, stderr=log, start_new_session=True
        )
        pinger = threading.Thread(target=_ping, args=(client, over, pings))
        try:
            rate, pause = _watch(stage, pinger)
        finally:
            over.set()
            pinger.join()
            worker.terminate()
            worker.wait(60)
        counted = store.execute("SELECT count(*) FROM deadletters_deadletter").fetchone()
    letters = counted[0] if counted else 0
    if letters != (stage.tasks if task == DEAD else 0):
        raise SystemExit(f"There are {letters} letters of {stage.tasks} tasks.")
    client.close()
    return Weather(
        task=task,
        rate=rate,
        ping=statistics.median(pings) * 1000,
        longest_ping=max(pings) * 1000,
        longest_pause=pause * 1000,
        letters=letters,
    )


def _watch(stage: Stage, pinger: threading.Thread) -> tuple[float, float]:
    """(tasks a second, longest seconds without an acknowledgement), from the time when a tenth is done."""
    client = redis.Redis.from_url(stage.redis.url)

    def left() -> int:
        with client.pipeline() as pipe:
            return sum(pipe.llen("default").hlen("unacked").execute())

    while (before := left()) > stage.tasks - stage.tasks // 10:
        time.sleep(0.005)
    pinger.start()
    begun, warm = time.monotonic(), before
    last, pause = begun, 0.0
    while before:
        time.sleep(0.002)
        now, some = time.monotonic(), left()
        pause = max(pause, now - last)
        if some < before:
            last, before = now, some
        if now - last > 60:
            raise SystemExit("Nothing was acknowledged for a minute.")
    client.close()
    return warm / (last - begun), pause


def _ping(client: Celery, over: threading.Event, answered: list[float]) -> None:
    while not over.is_set():
        begun = time.monotonic()
        if client.control.broadcast("ping", reply=True, timeout=30, limit=1):
            answered.append(time.monotonic() - begun)


def _successes(stage: Stage, app: str) -> float:
    client = Celery("filler", broker=stage.redis.url, set_as_current=False)
    _fill(stage, client, FINE)
    client.close()
    return drain(
        stage, [[*celery(app), "--include", "benchmarks.noop", "-Q", "default"]], our_environment(stage), "default"
    )


def _fill(stage: Stage, client: Celery, task: str) -> None:
    with client.producer_pool.acquire(block=True) as producer:
        for number in range(stage.tasks):
            client.send_task(task, [number], queue="default", producer=producer)


if __name__ == "__main__":
    main()
