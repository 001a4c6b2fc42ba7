"""Give up on letters on purpose, with a reason; and take that back. One or a hundred thousand: the same statement, one act."""

from functools import partial
from typing import Any

from django.contrib.auth.models import User
from django.db import connection, transaction
from django.db.models import QuerySet
from django.utils.translation import gettext as _

from deadletters import audit
from deadletters.faults import fault
from deadletters.models import Act, DeadLetter, Event, State
from deadletters.replay.claim import fail_taken_back

_LETTERS, _EVENTS = DeadLetter._meta.db_table, Event._meta.db_table
_BATCH = 5_000
# In the order of the ids, so that two who lock many letters wait for each other instead of for ever. Of a replay `claimed_at` stays
# and `sent_at` goes: the failure that its claim took back is still to be written (`fail_taken_back`). S608: every name is ours.
_MOVE = f"""
    WITH moved AS (
        UPDATE {_LETTERS} AS letter
           SET state = %(target)s,
               sent_at = CASE WHEN free.state = 'replaying' THEN NULL ELSE letter.sent_at END,
               started_copy = CASE WHEN free.state = 'replaying' THEN NULL ELSE letter.started_copy END
          FROM (SELECT id, state FROM {_LETTERS} WHERE id = ANY(%(ids)s) AND state = ANY(%(sources)s) ORDER BY id FOR UPDATE) AS free
         WHERE letter.id = free.id
        RETURNING letter.id, letter.replay_number, free.state AS was
    ), event AS (
        INSERT INTO {_EVENTS} (dead_letter_id, kind, at, replay_number, actor_id, text)
        SELECT id, %(kind)s, statement_timestamp(), replay_number, %(actor)s, %(reason)s FROM moved
    )
    SELECT id, was FROM moved
"""  # noqa: S608


class NotDiscardable(Exception):
    """This letter cannot be discarded or restored; the text says why."""


def discard(dead_letter: DeadLetter, *, by: User | None, reason: str, origin: str = "") -> None:
    """Give up on an open letter, or on a replay that nothing was heard of: whoever waits for it is told the failure it was replayed for.

    Raises:
        NotDiscardable: no reason was given, or it is resolved or discarded already.
    """
    _move_one(dead_letter, _DISCARD, by=by, reason=_said(reason), origin=origin)


def restore(dead_letter: DeadLetter, *, by: User | None, reason: str = "", origin: str = "") -> None:
    """Open a discarded letter again.

    Raises:
        NotDiscardable: it is not discarded.
    """
    _move_one(dead_letter, _RESTORE, by=by, reason=reason.strip(), origin=origin)


def discard_many(letters: "QuerySet[DeadLetter]", *, by: User | None, reason: str, **about: str) -> int:
    """Discard those of these letters that are open or replaying; returns how many were. `about`: origin, subject, error for the trail.

    Raises:
        NotDiscardable: no reason was given.
    """
    return _move_many(letters, _DISCARD, by=by, reason=_said(reason), **about)


def restore_many(letters: "QuerySet[DeadLetter]", *, by: User | None, reason: str = "", **about: str) -> int:
    """Open those of these letters again that are discarded; returns how many were."""
    return _move_many(letters, _RESTORE, by=by, reason=reason.strip(), **about)


# Where from, where to, and how the trails call it.
_Step = tuple[tuple[State, ...], State, Event.Kind, Act.Verb]
DISCARDABLE = (State.OPEN, State.REPLAYING)
_DISCARD: _Step = (DISCARDABLE, State.DISCARDED, Event.Kind.DISCARDED, Act.Verb.DISCARDED)
_RESTORE: _Step = ((State.DISCARDED,), State.OPEN, Event.Kind.RESTORED, Act.Verb.RESTORED)


def _said(reason: str) -> str:
    if not reason.strip():
        raise NotDiscardable(_("Say why the letter is discarded: the next person will ask."))
    return reason.strip()


def _move_one(letter: DeadLetter, step: _Step, *, by: User | None, reason: str, origin: str) -> None:
    sources, target, _kind, verb = step
    with transaction.atomic():
        if not _move([letter.pk], step, by, reason):
            letter.refresh_from_db(fields=["state"])
            raise NotDiscardable(
                _("The letter is %(state)s, not %(wanted)s.")
                % {"state": letter.get_state_display(), "wanted": " / ".join(str(source.label) for source in sources)}
            )
        audit.record(verb, by=by, reason=reason, origin=origin, letter=letter)
    letter.state = target


def _move_many(
    letters: "QuerySet[DeadLetter]",
    step: _Step,
    *,
    by: User | None,
    reason: str,
    origin: str = "",
    subject: str = "",
    error: str = "",
    verb: str = "",
) -> int:
    """Those that are there now, in transactions of _BATCH: what dies meanwhile is left alone, and a crash undoes one batch.

    The act goes with the first one, so that there is one however it ends; of more than a batch it counts those that were there then.
    """
    movable = letters.filter(state__in=step[0]).order_by("pk").values_list("pk", flat=True)
    ids, moved = list(movable), 0
    about: dict[str, Any] = {"origin": origin, "subject": subject, "fingerprint": error}
    for start in range(0, len(ids) or 1, _BATCH):
        batch = ids[start : start + _BATCH]
        with transaction.atomic():
            number = _move(batch, step, by, reason)
            told = number + len(ids) - len(batch)
            if start == 0 and (told or verb):
                audit.record(Act.Verb(verb or step[3]), by=by, number=told, reason=reason, **about)
        moved += number
    return moved


def _move(ids: list[int], step: _Step, by: User | None, reason: str) -> int:
    sources, target, kind, _verb = step
    with connection.cursor() as cursor:
        cursor.execute(
            _MOVE,
            {
                "ids": ids,
                "sources": [source.value for source in sources],
                "target": target.value,
                "kind": kind.value,
                "actor": by.pk if by else None,
                "reason": reason,
            },
        )
        moved = cursor.fetchall()
    if given_up := [pk for pk, was in moved if was == State.REPLAYING]:
        # Not part of the transaction: the workflow is failed for the discarded letter. What a crash leaves of this the sweep does.
        transaction.on_commit(partial(_fail, given_up), robust=True)
    return len(moved)


def _fail(ids: list[int]) -> None:
    fault("discard.committed")
    for letter in DeadLetter.objects.filter(pk__in=ids).order_by("pk").iterator(chunk_size=100):  # bodies may be large
        fail_taken_back(letter)
