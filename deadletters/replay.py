"""Send a dead letter again, under its own task id, so that the workflow it died in goes on.

Order matters: claim and reset in one transaction, publish after its commit, and open the letter again if the broker refuses.
A crash between commit and publish leaves a letter in `replaying` that was not sent; it can be told by its age.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from celery import Celery, current_app
from celery.app.task import Context
from celery.utils.serialization import create_exception_cls
from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from deadletters.downstream import Downstream, downstream
from deadletters.envelope import Envelope
from deadletters.models import NO_TASK_ID, DeadLetter, Event, State

logger = logging.getLogger(__name__)


class NotReplayable(Exception):
    """This letter cannot be replayed now; the text says why and what to do."""


class NotSent(NotReplayable):
    """The broker did not take the message: the letter is open again, and what waits behind it is failed as before."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a replay of many did: how many were sent, and (task id, reason) of each that was not."""

    sent: int = 0
    refused: list[tuple[str, str]] = field(default_factory=list)


def replay(dead_letter: DeadLetter, *, by: User | None, reason: str = "") -> int:
    """Replay one letter; `by` None means the platform itself. Returns the replay's number (1 for the first).

    Must not be called inside a transaction: what is published cannot be rolled back.

    Raises:
        NotReplayable: it is not open (any more), or its message cannot be sent again.
        NotSent: the broker did not take it.
    """
    app: Celery = current_app
    with transaction.atomic(durable=True):
        letter = _claim(dead_letter)
        envelope = Envelope.of(letter)
        _reopen_workflow(app, letter, envelope)
        _note(letter, Event.Kind.REPLAYED, by, reason)
    try:
        publish(app, envelope.for_replay(letter.replay_number))
    except Exception as problem:
        # Whatever it was (each transport has errors of its own): nothing was sent, and nobody else would open the letter again.
        _open_again(app, letter, envelope, by, str(problem))
        raise NotSent(
            _("The broker did not take the message (%(problem)s). The letter is open again.") % {"problem": problem}
        ) from problem
    logger.info(
        "dead_letter.replayed",
        extra={"task_id": letter.task_id, "task": letter.task_name, "replay": letter.replay_number},
    )
    return letter.replay_number


def replay_many(letters: Iterable[DeadLetter], *, by: User | None, reason: str = "") -> Replayed:
    """Replay each letter; one that is refused does not hold up the others, a broker that is away ends it."""
    sent, refused = 0, []
    for letter in letters:
        try:
            replay(letter, by=by, reason=reason)
        except NotSent as refusal:
            refused.append((letter.task_id, str(refusal)))
            break
        except NotReplayable as refusal:
            refused.append((letter.task_id, str(refusal)))
        else:
            sent += 1
    return Replayed(sent, refused)


def sets_free(letter: DeadLetter) -> Downstream:
    """What waits behind this letter: the tasks that a successful replay lets run."""
    arguments = Envelope.of(letter).arguments()
    return downstream(arguments.embed, letter.group_id) if arguments else Downstream()


def publish(app: Celery, envelope: Envelope) -> None:
    """Put the message straight into its queue, unchanged.

    Raises:
        kombu.exceptions.OperationalError, OSError: the broker is away.
    """
    properties: dict[str, Any] = {key: value for key, value in envelope.properties.items() if value is not None}
    with app.amqp.producer_pool.acquire(block=True) as producer:
        producer.publish(
            envelope.body,
            # The default exchange reaches exactly the queue it died in; the original one might fan out to others.
            exchange="",
            routing_key=envelope.queue,
            headers=dict(envelope.headers),
            content_type=envelope.content_type,
            content_encoding=envelope.content_encoding,
            retry=True,
            retry_policy={"max_retries": 3, "interval_start": 0, "interval_step": 0.2},
            **properties,
        )


def _claim(dead_letter: DeadLetter) -> DeadLetter:
    """Of any number of people at once one gets the letter: the row lock is the referee."""
    letter = DeadLetter.objects.select_for_update().filter(pk=dead_letter.pk).first()
    if letter is None:
        raise NotReplayable(_("The letter was deleted meanwhile."))
    if letter.state != State.OPEN:
        raise NotReplayable(_(_NOT_OPEN[State(letter.state)]) % {"task": letter.task_name})
    if letter.task_id.startswith(NO_TASK_ID):
        raise NotReplayable(_("This is no task message: nothing would run. Discard it, or send what was meant."))
    letter.state, letter.replay_number = State.REPLAYING, letter.replay_number + 1
    letter.save(update_fields=["state", "replay_number"])
    return letter


_NOT_OPEN = {
    State.REPLAYING: "A replay of %(task)s is under way already; wait for its outcome.",
    State.RESOLVED: "A replay of %(task)s has succeeded already; there is nothing left to do.",
    State.DISCARDED: "%(task)s was discarded; restore the letter first.",
}


def _reopen_workflow(app: Celery, letter: DeadLetter, envelope: Envelope) -> None:
    """Undo the failure that was written over the task and everything behind it."""
    if not envelope.queue:
        raise NotReplayable(_("It is not known which queue the message came from."))
    arguments = envelope.arguments()
    behind = downstream(arguments.embed, letter.group_id) if arguments else Downstream()
    reopen = getattr(app.backend, "reopen", None)
    if reopen is not None:
        reopen([letter.task_id, *behind.task_ids], behind.group_ids)
    elif behind.group_ids:
        raise NotReplayable(
            _(
                "It belongs to a chord, and the result backend %(backend)s cannot open a chord again; use pipelines.results.ResultBackend."
            )
            % {"backend": type(app.backend).__name__}
        )


def _open_again(app: Celery, letter: DeadLetter, envelope: Envelope, by: User | None, why: str) -> None:
    with transaction.atomic():
        mine = DeadLetter.objects.filter(pk=letter.pk, state=State.REPLAYING, replay_number=letter.replay_number)
        if not mine.update(state=State.OPEN):
            return
        _note(letter, Event.Kind.NOT_SENT, by, why)
    _fail_workflow(app, letter, envelope)


def _fail_workflow(app: Celery, letter: DeadLetter, envelope: Envelope) -> None:
    """Write the failure back that the claim took away, or whoever waits would wait for ever. Errbacks were told at the death."""
    arguments = envelope.arguments()
    request = Context({**envelope.headers, **(arguments.embed if arguments else {}), "id": letter.task_id})
    kind = create_exception_cls(letter.exception_type or "Exception", "deadletters")
    app.backend.mark_as_failure(
        letter.task_id, kind(letter.exception_message), letter.traceback, request=request, call_errbacks=False
    )


def _note(letter: DeadLetter, kind: Event.Kind, by: User | None, text: str) -> None:
    Event.objects.create(
        dead_letter=letter, kind=kind, at=timezone.now(), actor=by, replay_number=letter.replay_number, text=text
    )
