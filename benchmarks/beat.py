"""Beats side by side: ours, django-celery-beat's DatabaseScheduler and RedBeat, each as a real process on the same servers.

python -m venv /tmp/peers && /tmp/peers/bin/pip install -r requirements.txt -r benchmarks/requirements.txt
python -m benchmarks.beat --redbeat /tmp/peers/bin/python
python -m benchmarks.beat --sizes 100 1000 --only ours stock

For each: seconds from the start of the process to its first message (`load`), memory, share of a core while nothing is due
(`idle`), how long after it was due an edited schedule was sent (`edit`), and how long after they were due the last of 1,000 was sent (`burst`).
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import psycopg
import redis

ROOT = Path(__file__).resolve().parent.parent
HOUR = 3600
# Seconds from the start to the burst, by scheduler and size: loading must be over by then. None: it would take minutes.
LEAD: dict[str, dict[int, float | None]] = {
    "ours": {100: 14, 1000: 14, 10_000: 14, 100_000: 18},
    "stock": {100: 14, 1000: 16, 10_000: 30, 100_000: None},
    "redbeat": {100: 14, 1000: 14, 10_000: 16, 100_000: None},
}
CLASSES = {"ours": "schedules.scheduler:Scheduler", "stock": "django_celery_beat.schedulers:DatabaseScheduler"}
PATIENCE = 60.0
IDLE = 5.0


class Servers:
    """PostgreSQL and Redis of this run, and the questions that are asked of them."""

    def __init__(self, database: str, broker: str) -> None:
        self.database, self.broker = database, broker
        self.sql = psycopg.connect(database, autocommit=True)
        self.redis = redis.Redis.from_url(broker)

    def environment(self) -> dict[str, str]:
        return {
            **os.environ, "DATABASE_URL": self.database, "BROKER_URL": self.broker, "SECRET_KEY": "benchmark", "HTTPS": "false",
            "LOG_LEVEL": "WARNING", "PYTHONUNBUFFERED": "1",
        }  # fmt: skip

    def fill(self, number: int, burst: int, burst_at: float, *, triggers: bool) -> None:
        """One overdue row, `burst` rows that are due at one moment, and others that are due much later."""
        task = "django_celery_beat_periodictask"
        self.sql.execute(
            f"TRUNCATE {task}, django_celery_beat_intervalschedule, schedules_occurrence, schedules_beat, schedules_policy, schedules_broken CASCADE"
        )
        self.sql.execute(f"ALTER TABLE {task} {'ENABLE' if triggers else 'DISABLE'} TRIGGER USER")
        hour, second = (
            self.sql.execute(
                "INSERT INTO django_celery_beat_intervalschedule (every, period) VALUES (%s, %s) RETURNING id", row
            ).fetchone()[0]
            for row in ((1, "hours"), (1, "seconds"))
        )
        self.second = second
        self.sql.execute(
            f"""INSERT INTO {task} (name, task, interval_id, args, kwargs, queue, headers, one_off, enabled, last_run_at, total_run_count,
                                    date_changed, description)
                SELECT 'row ' || n, 'bench.nothing', %s, '[]', '{{}}', CASE WHEN n = 0 THEN 'first' WHEN n <= %s THEN 'burst' ELSE 'later' END,
                       '{{}}', false, true, CASE WHEN n = 0 THEN now() - interval '2 hours' WHEN n <= %s THEN to_timestamp(%s) - interval '1 hour'
                       ELSE now() END, 0, now(), ''
                  FROM generate_series(0, %s) AS n""",
            (hour, burst, burst, burst_at, number - 1),
        )
        self.sql.execute(f"ANALYZE {task}")
        self.sql.execute(
            "INSERT INTO django_celery_beat_periodictasks (ident, last_update) VALUES (1, now()) ON CONFLICT (ident) DO UPDATE SET last_update = now()"
        )

    def edit(self, name: str) -> float:
        """What the admin's save does: another interval, and the sign that stock beats look for. Returns when."""
        self.sql.execute(
            "UPDATE django_celery_beat_periodictask SET interval_id = %s, queue = 'edited', last_run_at = NULL, date_changed = now() WHERE name = %s",
            (self.second, name),
        )
        self.sql.execute("UPDATE django_celery_beat_periodictasks SET last_update = now()")
        return time.time()

    def wait(self, queue: str, number: int, patience: float = PATIENCE) -> float | None:
        """When so many messages were in a queue (epoch seconds); None: not within the patience."""
        deadline = time.time() + patience
        while time.time() < deadline:
            if self.redis.llen(queue) >= number:
                return time.time()
            time.sleep(0.002)
        return None


@contextmanager
def servers() -> Iterator[Servers]:
    from config.embedded import PostgreSQL, Redis, free_port, new_password

    with tempfile.TemporaryDirectory(prefix="redeliver-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o711)
        postgresql = PostgreSQL(folder / "postgresql", port=free_port(), password=new_password())
        broker = Redis(folder / "redis", port=free_port(), password=new_password())
        os.environ["VAR_DIR"] = str(folder)
        try:
            postgresql.start()
            broker.start()
            found = Servers(postgresql.url, broker.url)
            subprocess.run(
                [sys.executable, "manage.py", "migrate", "--verbosity", "0"],
                cwd=ROOT,
                env=found.environment(),
                check=True,
            )
            yield found
            found.sql.close()
        finally:
            broker.stop()
            postgresql.stop()


class Peer:
    """One scheduler: how its rows are written and edited, and how its beat is started."""

    def __init__(self, at: Servers, kind: str, python: str) -> None:
        self.at, self.kind = at, kind
        self.tool = [python, "-m", "benchmarks.redbeat_app"]
        if kind == "redbeat":
            app = [python, "-m", "celery", "-A", "benchmarks.redbeat_app"]
            self.command = [*app, "beat", "-S", "redbeat.RedBeatScheduler"]
        else:
            self.command = [sys.executable, "-m", "celery", "-A", "config", "beat", "-S", CLASSES[kind]]

    def fill(self, number: int, burst: int, burst_at: float) -> None:
        if self.kind == "redbeat":
            self._run("fill", str(number), str(burst), str(burst_at))
        else:
            self.at.fill(number, burst, burst_at, triggers=self.kind == "ours")

    def edit(self, row: str) -> float:
        return float(json.loads(self._run("edit", row))) if self.kind == "redbeat" else self.at.edit(row)

    @contextmanager
    def beat(self) -> Iterator[psutil.Popen]:
        command = [*self.command, "--loglevel", "WARNING", "-s", "/dev/null", "--pidfile="]
        environment = self.at.environment()
        process = psutil.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            yield process
        finally:
            process.kill()  # nothing that matters is lost, and one of them takes a minute to end
            process.wait()

    def _run(self, *arguments: str) -> bytes:
        command = [*self.tool, *arguments]
        return subprocess.run(command, cwd=ROOT, env=self.at.environment(), check=True, capture_output=True).stdout


def measure(at: Servers, kind: str, number: int, python: str) -> dict[str, float | None]:
    """One scheduler, one size."""
    lead = LEAD[kind][number]
    if lead is None:
        return {}
    peer, burst = Peer(at, kind, python), min(1000, number - 20)
    at.redis.flushall()
    # Writing the entries takes its time, too.
    burst_at = round(time.time() + lead + (number / 300 if kind == "redbeat" else number / 20_000), 3)
    peer.fill(number, burst, burst_at)
    began = time.time()
    with peer.beat() as process:
        first = at.wait("first", 1)
        used, since = sum(process.cpu_times()[:2]), time.time()
        time.sleep(max(0.0, min(IDLE, burst_at - since - 1)))
        idle = (sum(process.cpu_times()[:2]) - used) / max(time.time() - since, 0.001)
        last = at.wait("burst", burst, PATIENCE + max(0.0, burst_at - time.time()))
        edited = peer.edit(f"row {number - 1}")
        sent = at.wait("edited", 1, 120)
        memory = process.memory_info().rss
    return {
        "load": first and first - began, "memory": memory / 2**20, "idle": idle * 100,
        "edit": sent and sent - edited - 1, "burst": last and last - burst_at,
    }  # fmt: skip


def table(found: dict[tuple[str, int], dict[str, float | None]], sizes: list[int]) -> str:
    """Markdown."""
    kinds = list(dict.fromkeys(kind for kind, _size in found))
    names = {"ours": "Redeliver", "stock": "DatabaseScheduler", "redbeat": "RedBeat"}
    lines = ["| | schedules | " + " | ".join(names[kind] for kind in kinds) + " |", "|---|---|" + "---|" * len(kinds)]
    rows = {
        "load": ("start to first message, s", ".1f"), "memory": ("memory, MB", ".0f"), "idle": ("idle, % of a core", ".1f"),
        "edit": ("an edit, sent late by s", ".2f"), "burst": ("1,000 due at once, last one late by s", ".2f"),
    }  # fmt: skip
    for row, (title, form) in rows.items():
        for size in sizes:
            cells = []
            for kind in kinds:
                measured = found.get((kind, size), {})
                value = measured.get(row)
                cells.append(format(value, form) if value is not None else "never" if measured else "not run")
            lines.append(f"| {title} | {size:,} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=[100, 1000, 10_000, 100_000], choices=[100, 1000, 10_000, 100_000]
    )
    parser.add_argument("--only", nargs="+", default=["ours", "stock", "redbeat"], choices=["ours", "stock", "redbeat"])
    parser.add_argument(
        "--redbeat",
        default="",
        metavar="PYTHON",
        help="the interpreter of an environment with benchmarks/requirements.txt",
    )
    told = parser.parse_args()
    kinds = [kind for kind in told.only if kind != "redbeat" or told.redbeat]
    found = {}
    with servers() as at:
        for size in told.sizes:
            for kind in kinds:
                found[kind, size] = measure(at, kind, size, told.redbeat)
                print(kind, size, found[kind, size], file=sys.stderr, flush=True)
    print(table(found, told.sizes))


if __name__ == "__main__":
    main()
