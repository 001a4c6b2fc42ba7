"""Delete letters that nobody needs any more: by age and by number, each state for itself, oldest first.

A letter's age counts from the last thing that happened to it: one that was discarded by mistake today can be restored tomorrow,
however long ago it died.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import connection, transaction
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils import timezone

from deadletters.models import DeadLetter, Event, State

# Small enough that no batch holds its locks for more than some milliseconds.
_BATCH = 1_000

# Errors that nothing is left of and nobody has said anything about: of those a bug whose messages have nothing in common makes thousands
# a day, and the screens look at each. Who is inserting the next death holds the row's lock.
_ERRORS = """
    SELECT error.fingerprint FROM deadletters_errorgroup error
     WHERE error.last_seen < %s AND error.state <> 'resolved' AND error.note = '' AND error.assignee_id IS NULL
       AND NOT EXISTS (SELECT FROM deadletters_deadletter letter WHERE letter.fingerprint = error.fingerprint)
"""
_COUNT_ERRORS = f"SELECT count(*) FROM ({_ERRORS}) AS doomed"  # noqa: S608  (no value is in the text)
_DELETE_ERRORS = f"""
    DELETE FROM deadletters_errorgroup WHERE fingerprint IN ({_ERRORS} LIMIT %s FOR UPDATE OF error SKIP LOCKED)
"""  # noqa: S608

# Told after each batch how many went so far.
Tell = Callable[[int], None]
# A letter's place in the order in which letters are pruned: (died at, number).
_Place = tuple[datetime, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long letters in one state are kept, and how many at most; None: without end."""

    age: timedelta | None = None
    number: int | None = None


def prune_letters(
    keep: Mapping[State, Retention], *, dry_run: bool = False, tell: Tell = lambda _gone: None
) -> dict[State, int]:
    """Delete what is beyond `keep`; returns how many went (or would) by state. A state that is not named stays, and so do replays.

    Letters that somebody is acting on are passed over: no batch waits for a lock.
    """
    gone: dict[State, int] = {}
    for state, retention in keep.items():
        doomed = None if state is State.REPLAYING else _doomed(state, retention)
        if doomed is None:
            continue
        gone[state] = doomed.count() if dry_run else _delete(doomed, lambda more: tell(sum(gone.values()) + more))
    return gone


def prune_errors(older_than: timedelta, *, dry_run: bool = False) -> int:
    """Delete errors whose last letter is gone and whose last death is longer ago than that; returns how many went (or would).

    One that was resolved stays, for its next death is a regression; so does what has a note or an assignee.
    """
    before, deleted, gone = timezone.now() - older_than, 0, _BATCH
    with connection.cursor() as cursor:
        if dry_run:
            cursor.execute(_COUNT_ERRORS, [before])
            number: int = cursor.fetchone()[0]
            return number
        while gone == _BATCH:
            cursor.execute(_DELETE_ERRORS, [before, _BATCH])
            gone = cursor.rowcount
            deleted += gone
    return deleted


def _doomed(state: State, retention: Retention) -> QuerySet[DeadLetter] | None:
    """What is too old, and what is too many; None: everything stays."""
    letters = DeadLetter.objects.filter(state=state)
    beyond = _beyond_number(letters, retention.number)
    if retention.age is None:
        return letters.filter(_upto(beyond)) if beyond else None
    since = timezone.now() - retention.age
    untouched = ~Exists(Event.objects.filter(dead_letter=OuterRef("pk"), at__gt=since))
    # The later of the two places, for the index; then which of them it was.
    return letters.filter(
        _upto(max(beyond or (since, 0), (since, 0))), untouched | _upto(beyond) if beyond else untouched
    )


def _beyond_number(letters: QuerySet[DeadLetter], number: int | None) -> _Place | None:
    """The newest letter of those that are more than `number`."""
    if number is None:
        return None
    return letters.order_by("-died_at", "-pk").values_list("died_at", "pk")[number : number + 1].first()


def _delete(doomed: QuerySet[DeadLetter], tell: Tell) -> int:
    deleted, after = 0, None
    while True:
        with transaction.atomic():
            rows = doomed.filter(_beyond(after)) if after else doomed
            rows = rows.select_for_update(skip_locked=True).order_by("died_at", "pk")
            batch = list(rows.values_list("died_at", "pk")[:_BATCH])
            DeadLetter.objects.filter(pk__in=[pk for _died_at, pk in batch]).delete()
        deleted += len(batch)
        if len(batch) < _BATCH:
            return deleted
        after = batch[-1]  # what was passed over is not looked at again
        tell(deleted)


def _upto(place: _Place) -> Q:
    at, pk = place
    return Q(died_at__lte=at) & (Q(died_at__lt=at) | Q(pk__lte=pk))


def _beyond(place: _Place) -> Q:
    at, pk = place
    return Q(died_at__gte=at) & (Q(died_at__gt=at) | Q(pk__gt=pk))
