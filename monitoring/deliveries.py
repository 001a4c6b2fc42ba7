"""Send a notice through a channel, and note to whom it went and what came of it."""

import logging
from datetime import timedelta

from celery.exceptions import SoftTimeLimitExceeded
from django.db import DatabaseError
from django.utils import timezone

from monitoring.channels import mail, slack
from monitoring.models import Alert, Delivery
from monitoring.notice import NotDelivered, NotDeliveredYet, Notice

logger = logging.getLogger(__name__)

CHANNELS = {"slack": slack, "mail": mail}
KEPT = timedelta(days=90)


def send(
    channel: str, notice: Notice, *, fingerprint: str = "", dead_letter_id: int | None = None, held_back: int = 0
) -> None:
    """Send it, and leave one row: sent, refused, or tried in vain.

    Raises:
        NotDeliveredYet, NotDelivered: as the channel says.
    """
    outcome, problem = Delivery.Outcome.SENT, ""
    try:
        CHANNELS[channel].send(notice)
    except SoftTimeLimitExceeded:
        # A server that answers one byte at a time keeps within the channel's own limits.
        outcome, problem = Delivery.Outcome.LATE, "It took longer than the task may."
        raise NotDeliveredYet(problem) from None
    except NotDelivered as refusal:
        outcome, problem = Delivery.Outcome.REFUSED, str(refusal)
        raise
    except NotDeliveredYet as absence:
        outcome, problem = Delivery.Outcome.LATE, str(absence)
        raise
    except Exception as bug:
        outcome, problem = (
            Delivery.Outcome.REFUSED,
            type(bug).__name__,
        )  # its words might repeat an address that is secret
        raise
    finally:
        try:
            Delivery.objects.create(
                at=timezone.now(), channel=channel, recipients=CHANNELS[channel].recipients()[:500], subject=notice.subject[:300],
                fingerprint=fingerprint, dead_letter_id=dead_letter_id, held_back=held_back, outcome=outcome, problem=problem[:500],
            )  # fmt: skip
        except DatabaseError:  # the notice has gone, or will be tried again: neither depends on the note of it
            logger.exception("alert.not_noted")


def prune() -> int:
    """Delete rows that are older than KEPT, of what was sent and of when which error was spoken of; returns how many."""
    before = timezone.now() - KEPT
    rows = (Delivery.objects.filter(at__lt=before), Alert.objects.filter(last_sent_at__lt=before))
    return sum(old.delete()[0] for old in rows)
