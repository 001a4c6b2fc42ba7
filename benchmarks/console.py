"""Server time of each screen with a million letters and ten million results, beside the consoles of the peers at the same count.

python -m benchmarks.console                          # a million letters, ten million results: half an hour, 15 GB
python -m benchmarks.console --letters 100000 --results 1000000 --rq-jobs 100000 --rounds 3

Starts its own PostgreSQL and Redis; Procrastinate and django-rq are installed into a venv of the benchmark's own.
"""

import argparse
import json
import os
import shutil
import subprocess
import tempfile
import time
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.measure import machine
from benchmarks.page_times import timed
from config.embedded import PostgreSQL, Redis, free_port, new_password

ROOT = Path(__file__).resolve().parent.parent
PEERS = ("procrastinate", "django-rq", "rq==")
LETTERS, RESULTS = "/deadletters/deadletter/", "/django_celery_results/taskresult/"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.console", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--letters", type=int, default=1_000_000)
    parser.add_argument("--results", type=int, default=10_000_000)
    parser.add_argument(
        "--rq-jobs", type=int, default=1_000_000, help="failed jobs of django-rq: 0.8 GB of memory a million"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-venv", action="store_true", help="leave out the peers that must be installed")
    parser.add_argument("--out", type=Path, default=Path("benchmark-console.json"), help="where all figures go")
    options = parser.parse_args()
    with servers() as (database, redis):
        load = [os.getloadavg()[0]]
        times = measure(options.letters, options.results, options.rounds)
        if not options.no_venv:
            with psycopg.connect(database.url, autocommit=True) as connection:
                connection.execute("CREATE DATABASE peers")
            times |= peers(database.url_of("peers"), f"{redis.url[:-1]}1", options)
        load.append(os.getloadavg()[0])
    about = {"letters": options.letters, "results": options.results, "rq jobs": options.rq_jobs, "rounds": options.rounds, "load before and after": load}  # fmt: skip
    options.out.write_text(json.dumps({**machine(), **about, "times": times}, indent=2) + "\n")
    print(table(times))
    print(about)


@contextmanager
def servers() -> Iterator[tuple[PostgreSQL, Redis]]:
    """PostgreSQL and Redis of this run alone, as `bin/up` starts them, and the environment that names them."""
    folder = Path(tempfile.mkdtemp(prefix="redeliver-benchmark-"))
    folder.chmod(0o711)
    database = PostgreSQL(folder / "postgresql", port=free_port(), password=new_password(), settings={"max_wal_size": "8GB", "maintenance_work_mem": "512MB"})  # fmt: skip
    redis = Redis(folder / "redis", port=free_port(), password=new_password())
    try:
        database.start()
        redis.start()
        os.environ |= {
            "VAR_DIR": str(folder), "SECRET_KEY": new_password(), "DEBUG": "false", "HTTPS": "false", "ALLOWED_HOSTS": "testserver",
            "DATABASE_URL": database.url, "BROKER_URL": redis.url, "LOG_LEVEL": "ERROR", "DJANGO_SETTINGS_MODULE": "config.settings",
        }  # fmt: skip
        yield database, redis
    finally:
        redis.stop()
        database.stop()
        shutil.rmtree(folder, ignore_errors=True)


def measure(letters: int, results: int, rounds: int) -> dict[str, Any]:
    import django
    from django.conf import settings
    from django.core.management import call_command
    from django.test import override_settings

    django.setup()
    call_command("migrate", verbosity=0)
    from benchmarks.console_rows import fill

    started = time.perf_counter()
    fill(letters, results)
    print(f"filled in {time.perf_counter() - started:.0f} s", flush=True)
    from monitoring import minutes

    while not minutes.close(at_most=minutes.SLICE):
        pass  # what the heartbeat does
    times = {"Redeliver": timed(ours(), rounds)}
    # Its own addresses and Django's own templates.
    plain = [{**settings.TEMPLATES[0], "DIRS": []}]
    with override_settings(ROOT_URLCONF="benchmarks.console_stock_urls", TEMPLATES=plain):
        times["django-celery-results' admin"] = timed(stock(), rounds)
    return times


def ours() -> dict[str, str]:
    """{what: address}."""
    from deadletters.models import DeadLetter

    middle = DeadLetter.objects.order_by("-died_at", "-id")[50_000]
    cursor = f"before={middle.died_at.isoformat().replace('+', '%2B')},{middle.pk}"
    return {
        "dashboard": "/",
        "dead letters: page 1": LETTERS,
        "dead letters: page 1,000": f"{LETTERS}?state=all&{cursor}",
        "dead letters: by error": f"{LETTERS}by-error/",
        "dead letters: in one state": f"{LETTERS}?state=resolved",
        "dead letters: a task's": f"{LETTERS}?task_name=shop.task_19",
        "dead letters: a cause": f"{LETTERS}?cause=worker_lost",
        "search: a task id": f"{LETTERS}?q={middle.task_id}",
        "search: a rare word": f"{LETTERS}?q=zanzibar",
        "search: a common word": f"{LETTERS}?q=timed+out",
        "search: a number": f"{LETTERS}?q=order+{middle.pk}",
        "search: no hit": f"{LETTERS}?q=nothinglikethis",
        "one letter": f"{LETTERS}{middle.pk}/change/",
        **_results("status=FAILURE"),
        "results: of a worker": f"{RESULTS}?worker=prices-3@node1",
        "results: page 1,000": f"{RESULTS}?before={_somewhere().date_done.isoformat().replace('+', '%2B')},{_somewhere().pk}",
    }


def stock() -> dict[str, str]:
    """The same questions, asked as that admin takes them."""
    return {**_results("status__exact=FAILURE"), "results: page 1,000": f"{RESULTS}?p=1000"}


def _results(failed: str) -> dict[str, str]:
    return {
        "results: page 1": RESULTS,
        "results: failed ones": f"{RESULTS}?{failed}",
        "results: a task id": f"{RESULTS}?q={_somewhere().task_id}",
        "results: a task's name": f"{RESULTS}?q=task_39",
        "results: no hit": f"{RESULTS}?q=nothinglikethis",
    }


def _somewhere() -> Any:
    from django_celery_results.models import TaskResult

    return TaskResult.objects.order_by("-date_done")[5_000]


def peers(database: str, redis: str, options: argparse.Namespace) -> dict[str, Any]:
    """{console: times} of those that need an environment of their own."""
    with tempfile.TemporaryDirectory(prefix="redeliver-peers-") as folder:
        venv.create(folder, with_pip=True)
        python = f"{folder}/bin/python"
        pins = (ROOT / "benchmarks" / "requirements.txt").read_text().splitlines()
        wanted = [pin for pin in pins if pin.startswith(PEERS)]  # the file holds the peers of the other benchmarks, too
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wanted], check=True)
        numbers = map(str, (options.letters, options.rq_jobs, options.rounds))
        done = subprocess.run(
            [python, "-m", "benchmarks.peers.consoles", *numbers], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "PEER_DATABASE": database, "PEER_REDIS": redis},
        )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def table(times: dict[str, dict[str, dict[str, float]]]) -> str:
    """As docs/benchmarks.md shows it: a column a console, ours first."""
    screens = dict.fromkeys(screen for console in times.values() for screen in console)
    lines = [f"| screen | {', ms | '.join(times)}, ms |", "|---" * (1 + len(times)) + "|"]
    for screen in screens:
        cells = [f"{console[screen]['median']:,.0f}" if screen in console else "" for console in times.values()]
        lines.append(f"| {screen} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
