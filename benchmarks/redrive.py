"""`python -m benchmarks.redrive`: dead letters put back into their queues, ours and the peers' in one call.

Starts its own PostgreSQL, Redis and (where it is installed) RabbitMQ. RQ is installed into a venv of the benchmark's own.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from benchmarks.measure import alternate, table, versions, write
from config.embedded import PostgreSQL, Redis, free_port, new_password
from tests.rabbitmq import RabbitMQ

ROOT = Path(__file__).resolve().parent.parent
OURS, SINGLE = "Redeliver, redrive, Redis", "Redeliver, single replays, Redis"
ADMIN, RQ = "Celery admin action (`send_task` + `save`), Redis", "RQ, requeue all"
OURS_RABBIT, ADMIN_RABBIT = "Redeliver, redrive, RabbitMQ, confirmed", "Celery admin action, RabbitMQ, confirmed"
# Peers that go row by row get fewer rows: their rate does not depend on it.
_FEW = 1_000


class Stage:
    """The servers, and how much memory ours grew by in each round."""

    def __init__(self, folder: Path, letters: int) -> None:
        self.folder, self.letters = folder, letters
        self.grown: dict[str, list[int]] = {}
        folder.chmod(0o711)
        self.postgresql = PostgreSQL(folder / "postgresql", port=free_port(), password=new_password())
        self.redis = Redis(folder / "redis", port=free_port(), password=new_password())

    def environment(self, broker: str) -> dict[str, str]:
        """Of a process of ours."""
        return {
            **os.environ, "SECRET_KEY": "of-a-benchmark", "HTTPS": "false", "VAR_DIR": str(self.folder / "var"), "LOG_LEVEL": "ERROR",
            "DATABASE_URL": self.postgresql.url, "BROKER_URL": broker, "DJANGO_SETTINGS_MODULE": "config.settings",
        }  # fmt: skip

    def run(self, who: str, broker: str, letters: int) -> float:
        """One round of one contestant."""
        command = [sys.executable, "-m", "benchmarks.redriving", who, str(letters)]
        done = subprocess.run(
            command, cwd=ROOT, env=self.environment(broker), check=True, capture_output=True, text=True
        )
        said = json.loads(done.stdout.splitlines()[-1])
        self.grown.setdefault(f"{who} {broker.split(':', maxsplit=1)[0]}", []).append(said["megabytes"])
        return float(said["rate"])


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the table, write the JSON."""
    options = _options().parse_args(arguments)
    with (
        tempfile.TemporaryDirectory(prefix="redeliver-benchmark-") as name,
        _stage(Path(name), options) as (stage, rabbitmq),
    ):
        few, redis = min(_FEW, options.letters), stage.redis.url
        contestants: dict[str, Callable[[], float]] = {
            OURS: partial(stage.run, "ours", redis, options.letters),
            SINGLE: partial(stage.run, "one_by_one", redis, few),
            ADMIN: partial(stage.run, "admin_action", redis, few),
        }
        if rabbitmq:
            contestants[OURS_RABBIT] = partial(stage.run, "ours", rabbitmq, options.letters)
            contestants[ADMIN_RABBIT] = partial(stage.run, "admin_action", rabbitmq, few)
        if not options.no_venv:
            contestants[RQ] = partial(_rq, stage, _rq_python(stage.folder), min(10_000, options.letters))
        lines = alternate(contestants, options.rounds)
        grown = stage.grown
    print(table(lines, "letters/s", OURS, [line.name for line in lines if line.name not in {OURS, OURS_RABBIT}]))
    print(f"\nMemory that ours grew by, in MB, round by round: {grown}")
    facts = {"letters": options.letters, "megabytes": grown}
    write(options.json, lines, versions=versions("celery", "kombu", "amqp", "redis", "psycopg"), **facts)


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--letters", type=int, default=100_000, help="letters a round (fewer for those that go row by row)"
    )
    parser.add_argument("--rounds", type=int, default=3, help="rounds, each with all contestants")
    parser.add_argument("--json", type=Path, default=Path("benchmark-redrive.json"), help="where all figures go")
    parser.add_argument("--no-venv", action="store_true", help="leave out the peers that must be installed")
    parser.add_argument("--no-rabbitmq", action="store_true", help="leave out RabbitMQ")
    return parser


@contextmanager
def _stage(folder: Path, options: argparse.Namespace) -> Iterator[tuple[Stage, str]]:
    stage = Stage(folder, options.letters)
    rabbitmq = None
    try:
        stage.postgresql.start()
        stage.redis.start()
        migrate = [sys.executable, "manage.py", "migrate", "-v", "0"]
        subprocess.run(migrate, cwd=ROOT, env=stage.environment(stage.redis.url), check=True)
        if not options.no_rabbitmq:
            (folder / "r").mkdir()
            rabbitmq = RabbitMQ(folder / "r")
            rabbitmq.start()
        yield stage, rabbitmq.url if rabbitmq else ""
    finally:
        if rabbitmq:
            rabbitmq.stop()
        stage.redis.stop()
        stage.postgresql.stop()


def _rq(stage: Stage, python: str, number: int) -> float:
    command = [python, str(ROOT / "benchmarks" / "peers" / "rq_requeue.py"), f"{stage.redis.url[:-1]}1", str(number)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _rq_python(folder: Path) -> str:
    venv.create(folder / "venv", with_pip=True)
    python = str(folder / "venv" / "bin" / "python")
    requirements = str(ROOT / "benchmarks" / "requirements.txt")
    subprocess.run([python, "-m", "pip", "install", "--quiet", "-r", requirements], check=True)
    return python


if __name__ == "__main__":
    main()
