"""Fields of a task message that would harm the worker that believed them. Pure; costs an ordinary message four microseconds."""

import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from celery.utils.iso8601 import parse_iso8601

# A message with an eta is held by a worker until then.
FARTHEST = timedelta(days=3_653)
# Levels of lists and mappings. A worker hands a message to its processes by pickle, which ends at about 480, and the worker with it.
_DEEPEST = 60


def nonsense(headers: Mapping[str, Any], properties: Mapping[str, Any]) -> str:
    """What is wrong with a task message, as a sentence; empty: nothing that Celery would not notice itself."""
    task_id, limits, eta = headers.get("id"), headers.get("timelimit"), headers.get("eta")
    if not isinstance(task_id, str) or not task_id:
        return f"its id is {task_id!r}, which is no text"
    if _is_deep([headers, properties]):
        return f"its headers or properties are nested more than {_DEEPEST} levels deep"
    if limits is not None and not _are_limits(limits):
        return f"its time limits are {limits!r}, not two numbers of seconds"
    if eta and _is_far(eta):
        return f"its eta {eta} is more than ten years away"
    return ""


def _are_limits(limits: object) -> bool:
    return (
        isinstance(limits, (list, tuple))
        and len(limits) == 2
        and all(limit is None or _is_limit(limit) for limit in limits)
    )


def _is_limit(limit: object) -> bool:
    # Adding to its clock what is not finite, billiard raises in the main process.
    return isinstance(limit, (int, float)) and 0 <= limit <= sys.float_info.max


def _is_far(eta: object) -> bool:
    try:
        time = eta if isinstance(eta, datetime) else parse_iso8601(str(eta))
    except (ValueError, OverflowError):
        return False  # Celery refuses it
    # Before the first year in another time zone: Celery says FAILURE to the result backend, and no more.
    return time.year == 1 or (time if time.tzinfo else time.replace(tzinfo=UTC)) - datetime.now(UTC) > FARTHEST


def _is_deep(level: list[Any]) -> bool:
    for _depth in range(_DEEPEST):
        parts = (part.values() if isinstance(part, dict) else part for part in level)
        level = [item for part in parts for item in part if isinstance(item, (dict, list, tuple)) and item]
        if not level:
            return False
    return True
