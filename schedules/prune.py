"""Forget occurrences by age. The newest of each schedule that is still there stays: it says what was sent last."""

from datetime import timedelta
from typing import Any

from django.db import connection

# At a time, so that no lock is held for long.
BATCH = 10_000
OLD = """
      FROM schedules_occurrence old
     WHERE claimed_at < now() - %(age)s AND state NOT IN ('claimed', 'waiting')
       AND (EXISTS (SELECT 1 FROM schedules_occurrence newer WHERE newer.schedule_id = old.schedule_id AND newer.due_at > old.due_at)
            OR NOT EXISTS (SELECT 1 FROM django_celery_beat_periodictask task WHERE task.id = old.schedule_id))
"""
DELETE = f"DELETE FROM schedules_occurrence WHERE id IN (SELECT old.id {OLD} LIMIT %(batch)s)"  # noqa: S608  (no value is in it)


def prune_occurrences(older_than: timedelta, *, dry_run: bool = False) -> int:
    """Delete what is older; returns how many were (or would be)."""
    facts: dict[str, Any] = {"age": older_than, "batch": BATCH}
    deleted: int = 0
    with connection.cursor() as cursor:
        if dry_run:
            cursor.execute(f"SELECT count(*) {OLD}", facts)
            (count,) = cursor.fetchone() or (0,)
            return int(count)
        while True:
            cursor.execute(DELETE, facts)
            deleted += cursor.rowcount
            if cursor.rowcount < BATCH:
                return deleted
