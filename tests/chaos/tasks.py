"""What the soak runs: each task behaves as its argument says until the cause is mended, and writes into the ledger."""

import os
import signal
import time
from pathlib import Path

from celery import shared_task

from tests.chaos import ledger

LIMITS = {"soft_time_limit": 20, "time_limit": 25}


def _mended() -> bool:
    return Path(os.environ["SOAK_MENDED"]).exists()


def _behave(task, behaviour: str) -> None:
    match behaviour:
        case "slow":
            time.sleep(1.5)
        case "raises" if not _mended():
            raise ValueError("no luck")
        case "retries" if task.request.retries < 2:
            raise task.retry(countdown=0.2, max_retries=5)
        case "vanishes" if not _mended():
            os.kill(os.getpid(), signal.SIGKILL)
        case "exits" if not _mended():
            raise SystemExit(3)


def _run(task, received, label: str, behaviour: str) -> str:
    ledger.write(task.request.id, "began")
    _behave(task, behaviour)
    ledger.write(task.request.id, "finished", list(received))
    return label


@shared_task(name="soak.late", bind=True, **LIMITS)
def late(self, *received, label, behaviour):
    return _run(self, received, label, behaviour)


@shared_task(name="soak.early", bind=True, acks_late=False, **LIMITS)
def early(self, *received, label, behaviour):
    return _run(self, received, label, behaviour)
