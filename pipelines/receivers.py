"""What a worker hears from this room."""

import logging
from datetime import timedelta
from typing import Any

from celery import bootsteps
from celery.worker import state
from django.db import DatabaseError, InterfaceError, connection, connections
from django.utils import timezone
from psycopg.pq import TransactionStatus

from pipelines.cancel import cancelled_ids

logger = logging.getLogger(__name__)

# Messages of older runs are not in any queue any more.
REMEMBERED = timedelta(days=7)


def refuse_cancelled() -> None:
    """Teach a worker which tasks were cancelled while it was away: workers keep revoked ids only in memory."""
    try:
        state.revoked.update(cancelled_ids(timezone.now() - REMEMBERED))
    except (DatabaseError, InterfaceError):
        logger.exception("cancelled.not_known")
    connection.close()  # the pool's processes are forked after this


class RefuseCancelled(bootsteps.StartStopStep):
    """The same each time a worker has its broker back: what was said meanwhile was said to nobody."""

    requires = ("celery.worker.consumer.control:Control",)  # from here on it hears what is said

    def start(self, parent: Any) -> None:  # noqa: ARG002  (Celery's signature)
        """Called by the consumer after each connection."""
        refuse_cancelled()


def renew_connections(**_: Any) -> None:
    """Before each task: close what the task before it left broken, or amid a statement that its time limit cut off. Asks no server."""
    for one in connections.all(initialized_only=True):
        if one.connection is not None and one.connection.info.transaction_status != TransactionStatus.IDLE:
            one.close()
        else:
            one.close_if_unusable_or_obsolete()
