"""How much is kept of the letters of one error: a bug that kills a million tasks must not fill the disk.

Counted approximately and almost for nothing: each worker notes the deaths it saw, and asks PostgreSQL once in a hundredth of the limit.
"""

import logging
import time
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings
from django.db import DatabaseError, connection

from deadletters.envelope import NOTHING

logger = logging.getLogger(__name__)

# Beyond the limits the table is asked this often: pruning makes room again.
_AGAIN = 60.0
_ERRORS = 10_000  # remembered at once
_COUNT = "SELECT count(*) FROM (SELECT FROM deadletters_deadletter WHERE fingerprint = %s LIMIT %s) capped"


@dataclass(slots=True)
class _Seen:
    """What is known of one error: letters that were counted, deaths since then, and when it was counted (monotonic seconds)."""

    counted: int = 0
    since: int = 0
    at: float = field(default_factory=time.monotonic)


_seen: dict[str, _Seen] = {}


def limited(row: dict[str, Any]) -> dict[str, Any]:
    """The row of one more letter, without what is not kept of it; the row says so. Asks nobody."""
    number, payloads = _note(row["fingerprint"]), settings.DEADLETTERS_KEEP_PAYLOADS_PER_ERROR
    if row["traceback"] and number > settings.DEADLETTERS_KEEP_PER_ERROR:
        row = {**row, "traceback": "", "traceback_kept": False}
    if payloads and number > payloads:
        row = {**row, **NOTHING, "payload_kept": False}
    return row


def recount(fingerprint: str) -> None:
    """Count its letters if that is due; on a connection that has just been used. Never raises: an old number does, too."""
    seen = _seen.get(fingerprint)
    limits = [settings.DEADLETTERS_KEEP_PER_ERROR, settings.DEADLETTERS_KEEP_PAYLOADS_PER_ERROR or 0]
    if seen is None or not _due(seen, min(filter(None, limits)), max(limits)):
        return
    try:
        with connection.cursor() as cursor:
            cursor.execute(_COUNT, [fingerprint, max(limits) + 1])
            seen.counted, seen.since, seen.at = cursor.fetchone()[0], 0, time.monotonic()
    except DatabaseError:
        logger.warning("dead_letter.not_counted", extra={"error": fingerprint}, exc_info=True)


def _note(fingerprint: str) -> int:
    """About how many letters of this error there are with this one."""
    seen = _seen.get(fingerprint)
    if seen is None:
        if len(_seen) >= _ERRORS:
            _seen.pop(next(iter(_seen)), None)
        seen = _seen[fingerprint] = _Seen()
    seen.since += 1
    return seen.counted + seen.since


def _due(seen: _Seen, least: int, most: int) -> bool:
    if seen.counted + seen.since > most:
        return seen.counted <= most or time.monotonic() - seen.at >= _AGAIN
    return seen.since >= max(1, least // 100)
