"""Claim letters for a replay, one or a thousand in a statement, and note what became of the sending.

Of any number of people, tabs and commands at once one gets a letter: the row's lock is the referee. Order matters: claim and commit,
publish what `message` gives, `mark_sent`. Whoever dies in between leaves letters that are claimed and not known to be sent; the sweep
sends those once more, and the worker runs one copy (copies.py).
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from django.contrib.auth.models import User
from django.db import connection, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from deadletters.envelope import Envelope
from deadletters.faults import fault
from deadletters.models import NO_TASK_ID, DeadLetter, Event, State
from deadletters.replay import workflow

_TABLE = DeadLetter._meta.db_table
# In the order of the ids, so that two batches wait for each other instead of for ever.
_CLAIM = f"""
    UPDATE {_TABLE} AS letter
       SET state = 'replaying', replay_number = letter.replay_number + 1, claimed_at = now(), sent_at = NULL, started_copy = NULL
      FROM (SELECT id FROM {_TABLE}
             WHERE id = ANY(%(ids)s) AND state = 'open' AND queue <> '' AND NOT starts_with(task_id, %(no_task)s)
             ORDER BY id FOR UPDATE {{locked}}) AS free
     WHERE letter.id = free.id
    RETURNING letter.*
"""  # noqa: S608  (every name is ours)
_MARK_SENT = f"""
    UPDATE {_TABLE} AS letter SET sent_at = now()
      FROM unnest(%(ids)s::bigint[], %(numbers)s::int[]) AS sent (id, replay_number)
     WHERE letter.id = sent.id AND letter.replay_number = sent.replay_number AND letter.sent_at IS NULL
"""  # noqa: S608
# Not what a worker has begun: that was sent, whatever the broker said. `sent_at` is empty then, by which the sweep knows what to fail again.
_TAKE_BACK = f"""
    UPDATE {_TABLE} AS letter SET state = 'open', sent_at = NULL
      FROM unnest(%(ids)s::bigint[], %(numbers)s::int[]) AS unsent (id, replay_number)
     WHERE letter.id = unsent.id AND letter.replay_number = unsent.replay_number AND letter.state = 'replaying'
       AND letter.started_copy IS NULL
    RETURNING letter.id
"""  # noqa: S608


@dataclass(frozen=True, slots=True)
class Claimed:
    """The letters that are ours to send, and (task id, reason) of those that are not."""

    letters: list[DeadLetter] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)


def claim(ids: Collection[int], *, by: User | None, reason: str = "", skip_locked: bool = False) -> Claimed:
    """Claim the open ones of these letters and re-open their workflows, as part of the caller's transaction.

    Publish each `message` after the commit, then call `mark_sent`. With `skip_locked` a letter that somebody else is claiming right
    now is refused at once; else this waits for the other to finish.
    """
    statement = _CLAIM.format(locked="SKIP LOCKED" if skip_locked else "")
    letters = list(DeadLetter.objects.raw(statement, {"ids": list(ids), "no_task": NO_TASK_ID}))
    stuck = {letter.pk: why for letter, why in workflow.reopen(letters)}
    _release([letter for letter in letters if letter.pk in stuck])
    mine = sorted((letter for letter in letters if letter.pk not in stuck), key=lambda letter: letter.pk)
    _note(mine, Event.Kind.REPLAYED, by, reason)
    fault("replay.claiming")
    refused = [(letter.task_id, stuck[letter.pk]) for letter in letters if letter.pk in stuck]
    return Claimed(mine, refused + _refusals(set(ids) - {letter.pk for letter in letters}))


def message(letter: DeadLetter) -> Envelope:
    """What is to be published for a claimed letter; each call makes another copy of the same message."""
    return Envelope.of(letter).for_replay(letter.replay_number)


def mark_sent(letters: Sequence[DeadLetter]) -> None:
    """The broker has confirmed these messages."""
    with connection.cursor() as cursor:
        cursor.execute(_MARK_SENT, _numbered(letters))


def take_back(letters: Sequence[DeadLetter], *, by: User | None, why: str) -> int:
    """The broker refused these messages: each letter is open again and its workflow failed as before; returns how many are.

    One that a worker has begun was sent after all and goes on. A copy that still comes out of the broker is dropped.
    """
    with transaction.atomic():
        back = open_again({letter.pk: letter.replay_number for letter in letters}, by=by, why=why)
    fail_again(back)
    return len(back)


def open_again(numbers: Mapping[int, int], *, by: User | None, why: str) -> list[DeadLetter]:
    """The first half of `take_back`, as part of the caller's transaction: which letters (id -> number of its replay) are open again."""
    with connection.cursor() as cursor:
        cursor.execute(_TAKE_BACK, {"ids": list(numbers), "numbers": list(numbers.values())})
        opened = [row[0] for row in cursor.fetchall()]
    back = list(DeadLetter.objects.filter(pk__in=opened).order_by("pk"))
    _note(back, Event.Kind.NOT_SENT, by, why)
    return back


def fail_again(letters: Iterable[DeadLetter]) -> None:
    """The second half, after the commit."""
    fault("replay.taken_back")
    for letter in letters:
        fail_taken_back(letter)


def fail_taken_back(letter: DeadLetter) -> bool:
    """Fail the workflow of a letter that was taken back or discarded, unless somebody has claimed it meanwhile. Until then the sweep looks for it."""
    still = (State.OPEN, State.DISCARDED)
    mine = DeadLetter.objects.filter(pk=letter.pk, replay_number=letter.replay_number, state__in=still)
    with transaction.atomic():
        if not mine.update(claimed_at=None):
            return False
        workflow.fail(letter)
    return True


def _release(letters: Sequence[DeadLetter]) -> None:
    for letter in letters:
        letter.state, letter.replay_number, letter.claimed_at = State.OPEN, letter.replay_number - 1, None
    DeadLetter.objects.bulk_update(letters, ["state", "replay_number", "claimed_at"])


def _refusals(ids: set[int]) -> list[tuple[str, str]]:
    if not ids:
        return []
    found = {letter.pk: letter for letter in DeadLetter.objects.defer("body").filter(pk__in=ids)}
    return [_refusal(found.get(pk), pk) for pk in sorted(ids)]


def _refusal(letter: DeadLetter | None, pk: int) -> tuple[str, str]:
    if letter is None:
        return str(pk), _("The letter was deleted meanwhile.")
    if letter.state != State.OPEN:
        return letter.task_id, not_open(letter)
    if letter.task_id.startswith(NO_TASK_ID):
        return letter.task_id, _("This is no task message: nothing would run. Discard it, or send what was meant.")
    if not letter.queue:
        return letter.task_id, _("It is not known which queue the message came from.")
    return letter.task_id, _("Somebody else is claiming %(task)s right now.") % {"task": letter.task_name}


def not_open(letter: DeadLetter) -> str:
    """Why a letter that is not open cannot be claimed."""
    return _(_NOT_OPEN[State(letter.state)]) % {"task": letter.task_name}


_NOT_OPEN = {
    State.REPLAYING: "A replay of %(task)s is under way already; wait for its outcome.",
    State.RESOLVED: "A replay of %(task)s has succeeded already; there is nothing left to do.",
    State.DISCARDED: "%(task)s was discarded; restore the letter first.",
}


def _numbered(letters: Sequence[DeadLetter]) -> dict[str, list[int]]:
    return {"ids": [letter.pk for letter in letters], "numbers": [letter.replay_number for letter in letters]}


def _note(letters: Sequence[DeadLetter], kind: Event.Kind, by: User | None, text: str) -> None:
    now = timezone.now()
    Event.objects.bulk_create(
        Event(dead_letter=letter, kind=kind, at=now, actor=by, replay_number=letter.replay_number, text=text)
        for letter in letters
    )
