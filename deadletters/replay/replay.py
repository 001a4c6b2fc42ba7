"""Send a dead letter again, under its own task id, so that the workflow it died in goes on."""

import logging
from contextlib import closing

from celery import Celery, current_app
from django.contrib.auth.models import User
from django.db import DatabaseError, transaction
from django.utils.translation import gettext as _

from deadletters import audit
from deadletters.envelope import Envelope
from deadletters.faults import fault
from deadletters.models import Act, DeadLetter
from deadletters.replay.claim import claim, mark_sent, message, take_back
from deadletters.replay.publish import Publisher, Ready

logger = logging.getLogger(__name__)


class NotReplayable(Exception):
    """This letter cannot be replayed now; the text says why and what to do."""


class NotSent(NotReplayable):
    """The broker did not take the message: the letter is open again, and what waits behind it is failed as before."""


def replay(dead_letter: DeadLetter, *, by: User | None, reason: str = "", origin: str = "") -> int:
    """Replay one letter; `by` None means the platform itself. Returns the replay's number (1 for the first).

    Must not be called inside a transaction: what is published cannot be rolled back.

    Raises:
        NotReplayable: it is not open (any more), or its message cannot be sent again.
        NotSent: the broker did not take it.
    """
    with transaction.atomic(durable=True):
        claimed = claim([dead_letter.pk], by=by, reason=reason)
        for letter in claimed.letters:
            audit.record(Act.Verb.REPLAYED, by=by, reason=reason, origin=origin, letter=letter)
    for _task_id, why in claimed.refused:
        raise NotReplayable(why)
    (letter,) = claimed.letters
    fault("replay.claimed")
    send(letter, by=by)
    logger.info(
        "dead_letter.replayed",
        extra={"task_id": letter.task_id, "task": letter.task_name, "replay": letter.replay_number},
    )
    return letter.replay_number


def send(letter: DeadLetter, *, by: User | None) -> None:
    """Publish a claimed letter.

    Raises:
        NotSent: the broker did not take it.
    """
    try:
        publish(current_app, letter, message(letter))
    except Exception as problem:
        # Whatever it was (each transport has errors of its own): a copy that still comes out of the broker is dropped.
        take_back([letter], by=by, why=str(problem))
        raise NotSent(
            _("The broker did not take the message (%(problem)s). The letter is open again.") % {"problem": problem}
        ) from problem
    fault("replay.sent")
    try:
        mark_sent([letter])
    except DatabaseError:
        # It is sent; the sweep finds that out from the worker, or sends a copy, which is dropped.
        logger.exception("dead_letter.sent_but_not_marked", extra={"task_id": letter.task_id})


def publish(app: Celery, letter: DeadLetter, envelope: Envelope) -> None:
    """Put the letter's message straight into its queue, unchanged: the original exchange might fan out to others.

    Raises:
        Unsent: the broker is away, has no such queue, or does not confirm the message.
    """
    with closing(Publisher(app)) as publisher:
        publisher.send([Ready.of(letter, envelope)])
