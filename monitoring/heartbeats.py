"""Beat's sign of life, seen from the far end: the heartbeat task that a worker ran."""

from datetime import datetime, timedelta

from django.utils import timezone

from monitoring.models import Heartbeat

BEAT = "beat"
# The shipped schedule beats every minute; three missed ones are no hiccup.
LATE = timedelta(minutes=3)


def record(at: datetime | None = None) -> datetime:
    """Beat's heartbeat came through now (or `at`), in one statement; returns the time."""
    at = at or timezone.now()
    Heartbeat.objects.bulk_create(
        [Heartbeat(name=BEAT, at=at)], update_conflicts=True, unique_fields=["name"], update_fields=["at"]
    )
    return at


def last() -> datetime | None:
    """When the last heartbeat came through; None if none ever did."""
    return Heartbeat.objects.filter(name=BEAT).values_list("at", flat=True).first()
