"""How long each task took: to the log, and to statsd when there is one."""

import logging
import re
import time
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from celery.signals import task_postrun, task_prerun
from django.conf import settings
from statsd import StatsClient

logger = logging.getLogger(__name__)

# task id -> monotonic seconds; one entry a running task (threads share a process, so there may be several).
_started: dict[str, float] = {}


def connect() -> None:
    """Measure every task of this process from now on."""
    task_prerun.connect(started, dispatch_uid="monitoring.durations.started")
    task_postrun.connect(finished, dispatch_uid="monitoring.durations.finished")


def started(*, task_id: str, **_: Any) -> None:
    """A task is about to run."""
    _started[task_id] = time.monotonic()


def finished(*, task_id: str, task: Any, state: str | None = None, **_: Any) -> None:
    """A task has run, whatever came of it. `state`: Celery's (SUCCESS, FAILURE, RETRY, …)."""
    begin = _started.pop(task_id, None)
    if begin is None:
        return
    milliseconds = (time.monotonic() - begin) * 1000
    logger.info("task.finished", extra={"duration_ms": round(milliseconds, 1), "state": state or "UNKNOWN"})
    if settings.STATSD_URL and (client := _client(settings.STATSD_URL)):
        client.timing(metric(task.name), milliseconds)


def metric(task_name: str) -> str:
    """`celery.task.<name>.duration`; characters that statsd's line format gives a meaning, and non-ASCII ones, become _."""
    return f"celery.task.{re.sub(r'[^A-Za-z0-9_.-]', '_', task_name)}.duration"


@cache
def _client(url: str) -> StatsClient | None:
    """One UDP socket a process: sending never waits and never fails. None when the host has no address (said once)."""
    address = urlsplit(url)
    host = address.hostname or "127.0.0.1"
    try:
        return StatsClient(host, address.port or 8125, ipv6=":" in host)
    except OSError as problem:
        logger.warning("statsd.unusable", extra={"host": host, "reason": str(problem)})
        return None
