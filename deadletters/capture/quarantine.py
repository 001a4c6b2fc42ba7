"""Bytes that are no message become a letter, and the queue moves on."""

import logging

from deadletters.capture.capture import capture
from deadletters.capture.record import Death, described
from deadletters.envelope import Envelope
from deadletters.models import NO_TASK_ID, Cause, new_death_id

logger = logging.getLogger(__name__)


def quarantine(raw: bytes, queue: str, problem: Exception) -> None:
    """Keep `raw`, which a consumer of `queue` could not make a message of, with what was wrong with it.

    Raises:
        SpoolError: neither PostgreSQL nor the spool took it; it must stay in the broker.
    """
    death_id = new_death_id()
    kind, words = described(problem)
    logger.error("message.quarantined", extra={"queue": queue, "bytes": len(raw), "why": words})
    capture(
        Death(
            task_id=f"{NO_TASK_ID}{death_id}",
            task_name="",
            cause=Cause.UNKNOWN_MESSAGE,
            envelope=Envelope(
                headers={},
                properties={},
                body=raw,
                content_type="application/octet-stream",
                content_encoding="binary",
                exchange="",
                routing_key=queue,
                queue=queue,
            ),
            exception_type=kind,
            exception_message=words,
            death_id=death_id,
        )
    )
