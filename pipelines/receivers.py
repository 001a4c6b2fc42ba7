"""What a worker hears from this room."""

from datetime import timedelta
from typing import Any

from celery.worker import state
from django.db import connection, connections
from django.utils import timezone
from psycopg.pq import TransactionStatus

from pipelines.cancel import cancelled_ids

# Messages of older runs are not in any queue any more.
REMEMBERED = timedelta(days=7)


def refuse_cancelled(**_: Any) -> None:
    """Teach a worker that starts which tasks were cancelled while it was away: workers keep revoked ids only in memory."""
    state.revoked.update(cancelled_ids(timezone.now() - REMEMBERED))
    connection.close()  # the pool's processes are forked after this


def renew_connections(**_: Any) -> None:
    """Before each task: close what the task before it left broken, or amid a statement that its time limit cut off. Asks no server."""
    for one in connections.all(initialized_only=True):
        if one.connection is not None and one.connection.info.transaction_status != TransactionStatus.IDLE:
            one.close()
        else:
            one.close_if_unusable_or_obsolete()
