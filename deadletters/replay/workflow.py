"""The workflow around a dead letter: what its death failed, how a replay takes that back, and how it is failed again."""

from collections.abc import Iterable, Sequence
from typing import Any

from celery import current_app
from celery.app.task import Context
from celery.utils.serialization import create_exception_cls
from django.utils.translation import gettext as _

from deadletters.envelope import Envelope, NoEnvelope
from deadletters.models import DeadLetter
from deadletters.replay.downstream import Downstream, Part, downstream

# How Celery's JSON ends for a task that nothing waits for: most letters of a storm, which need no decoding then.
ALONE = b'"chain": null, "chord": null}]'


def sets_free(letter: DeadLetter) -> Downstream:
    """What waits behind this letter: the tasks that a successful replay lets run. None are known behind a message that cannot be had."""
    try:
        return _behind(letter)
    except NoEnvelope:
        return Downstream()


def _behind(letter: DeadLetter) -> Downstream:
    envelope = Envelope.of(letter)
    if envelope.body.endswith(ALONE):
        return Downstream()
    arguments = envelope.arguments()
    if arguments is None:
        return Downstream()
    own = Part(letter.group_id, letter.task_id, envelope.headers.get("group_index"))
    return downstream(arguments.embed, own)


def reopen(letters: Sequence[DeadLetter]) -> list[tuple[DeadLetter, str]]:
    """Undo the failure that was written over these tasks and everything behind them. Returns (letter, why) of those that cannot be.

    Part of the caller's transaction, as far as the result backend has any.
    """
    backend: Any = current_app.backend
    workflows, refused = _workflows(letters)
    lost = missing_chords(part.group_id for _letter, after in workflows for part in after.parts)
    refused += [(letter, _why(after, lost)) for letter, after in workflows if lost.intersection(after.group_ids)]
    gone = {letter.pk for letter, _why in refused}
    free = [(letter, after) for letter, after in workflows if letter.pk not in gone]
    if hasattr(backend, "reopen"):
        backend.reopen(
            dict.fromkeys(task_id for letter, after in free for task_id in (letter.task_id, *after.task_ids)),
            dict.fromkeys(part for _letter, after in free for part in after.parts),
        )
    return refused


def _workflows(
    letters: Sequence[DeadLetter],
) -> tuple[list[tuple[DeadLetter, Downstream]], list[tuple[DeadLetter, str]]]:
    """(letter, what waits behind it) of each whose message can be had, and (letter, why) of the others."""
    workflows, refused = [], []
    for letter in letters:
        try:
            workflows.append((letter, _behind(letter)))
        except NoEnvelope as problem:
            refused.append((letter, str(problem)))
    return workflows, refused


def missing_chords(group_ids: Iterable[str]) -> set[str]:
    """Which of these chords cannot be completed any more: pruned, expired, or of a result backend that cannot open them again."""
    wanted = set(group_ids)
    backend: Any = current_app.backend
    if not wanted:
        return set()
    return set(backend.missing_chords(wanted)) if hasattr(backend, "missing_chords") else wanted


def fail(letter: DeadLetter) -> None:
    """Write the failure back that a claim took away, or whoever waits would wait for ever. Errbacks were told at the death."""
    try:
        envelope = Envelope.of(letter)
    except NoEnvelope:  # its key was taken away meanwhile: whoever waits behind it is not known, its own result is
        known: dict[str, Any] = {}
    else:
        arguments = envelope.arguments()
        known = {**envelope.headers, **(arguments.embed if arguments else {})}
    request = Context({**known, "id": letter.task_id})
    kind = create_exception_cls(letter.exception_type or "Exception", "deadletters")
    backend: Any = current_app.backend
    backend.mark_as_failure(
        letter.task_id, kind(letter.exception_message), letter.traceback, request=request, call_errbacks=False
    )


def _why(after: Downstream, lost: set[str]) -> str:
    if not hasattr(current_app.backend, "missing_chords"):
        return _(
            "It belongs to a chord, and the result backend %(backend)s cannot open a chord again; use pipelines.results.ResultBackend."
        ) % {"backend": type(current_app.backend).__name__}
    group_id = next(group_id for group_id in after.group_ids if group_id in lost)
    return _("Its chord %(group)s is gone (pruned or expired): the chord's body could never run.") % {"group": group_id}
