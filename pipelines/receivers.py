"""What a worker hears from this room."""

from datetime import timedelta
from typing import Any

from celery.worker import state
from django.db import connection
from django.utils import timezone

from pipelines import runs

# Messages of older runs are not in any queue any more.
REMEMBERED = timedelta(days=7)


def refuse_cancelled(**_: Any) -> None:
    """Teach a worker that starts which tasks were cancelled while it was away: workers keep revoked ids only in memory."""
    state.revoked.update(runs.cancelled_ids(timezone.now() - REMEMBERED))
    connection.close()  # the pool's processes are forked after this
