"""Server time of each screen with a million letters and ten million results, beside the stock admin of django-celery-results.

python -m benchmarks.console                          # a million letters, ten million results: half an hour, 15 GB
python -m benchmarks.console --letters 100000 --results 1000000 --rounds 3
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from config.embedded import PostgreSQL, Redis, free_port, new_password

LETTERS, RESULTS = "/deadletters/deadletter/", "/django_celery_results/taskresult/"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.console", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--letters", type=int, default=1_000_000)
    parser.add_argument("--results", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/console.json"))
    options = parser.parse_args()
    with servers():
        figures = measure(options.letters, options.results, options.rounds)
    figures |= {"letters": options.letters, "results": options.results, "rounds": options.rounds, "cores": os.cpu_count(), "python": platform.python_version()}  # fmt: skip
    options.out.write_text(json.dumps(figures, indent=2) + "\n")
    print(table(figures))


@contextmanager
def servers() -> Iterator[None]:
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
        yield
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
    figures = {"ours": timed(ours(), rounds)}
    # Its own addresses and Django's own templates.
    plain = [{**settings.TEMPLATES[0], "DIRS": []}]
    with override_settings(ROOT_URLCONF="benchmarks.console_stock_urls", TEMPLATES=plain):
        figures["django-celery-results"] = timed(stock(), rounds)
    return figures


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
        "dead letters: a task's": f"{LETTERS}?task_name=shop.task_19",
        "dead letters: a cause": f"{LETTERS}?cause=worker_lost",
        "search: a task id": f"{LETTERS}?q={middle.task_id}",
        "search: a rare word": f"{LETTERS}?q=zanzibar",
        "search: a common word": f"{LETTERS}?q=timed+out",
        "search: a number": f"{LETTERS}?q=order+{middle.pk}",
        "search: no hit": f"{LETTERS}?q=nothinglikethis",
        "one letter": f"{LETTERS}{middle.pk}/change/",
        **_results("status=FAILURE"),
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


def timed(pages: dict[str, str], rounds: int) -> dict[str, Any]:
    """{what: median milliseconds of the whole response, from the request to the last byte}."""
    from django.contrib.auth import get_user_model
    from django.test import Client

    user, _made = get_user_model().objects.get_or_create(username="ana", is_staff=True, is_superuser=True)
    client = Client()
    client.force_login(user)
    found = {}
    for what, address in pages.items():
        client.get(address)  # the first one imports and compiles
        times = []
        for _ in range(rounds):
            started = time.perf_counter()
            status = client.get(address).status_code
            times.append((time.perf_counter() - started) * 1000)
        found[what] = {"median": round(statistics.median(times), 1), "slowest": round(max(times), 1), "status": status}
        print(f"{what}: {found[what]}", flush=True)
    return found


def table(figures: dict[str, Any]) -> str:
    """As docs/benchmarks.md shows it."""
    theirs = figures["django-celery-results"]
    lines = ["| screen | ours, ms | django-celery-results' admin, ms | ratio |", "|---|---|---|---|"]
    for what, ours_ in figures["ours"].items():
        peer = theirs.get(what)
        ratio = f"{peer['median'] / ours_['median']:.0f}x" if peer else ""
        lines.append(
            f"| {what} | {ours_['median']:,.0f} | {peer['median']:,.0f} | {ratio} |"
            if peer
            else f"| {what} | {ours_['median']:,.0f} | | |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
