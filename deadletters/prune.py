"""Delete letters that nobody needs any more: by age and by number, each state for itself, oldest first."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from deadletters.models import DeadLetter, State

# Small enough that no batch holds its locks for more than some milliseconds.
_BATCH = 1_000

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
        last = None if state is State.REPLAYING else _last(state, retention)
        if last is None:
            continue
        doomed = DeadLetter.objects.filter(_upto(last), state=state)
        gone[state] = doomed.count() if dry_run else _delete(doomed, lambda more: tell(sum(gone.values()) + more))
    return gone


def _last(state: State, retention: Retention) -> _Place | None:
    """The last letter to go: the later of what is too old and what is too many."""
    places = []
    if retention.age is not None:
        places.append((timezone.now() - retention.age, 0))
    if retention.number is not None:
        newest = DeadLetter.objects.filter(state=state).order_by("-died_at", "-pk")
        if beyond := newest.values_list("died_at", "pk")[retention.number : retention.number + 1].first():
            places.append(beyond)
    return max(places, default=None)


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
