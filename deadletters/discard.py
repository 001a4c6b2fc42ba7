"""Give up on a letter on purpose, with a reason; and take that back."""

from collections.abc import Iterable

from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from deadletters.models import DeadLetter, Event, State


class NotDiscardable(Exception):
    """This letter cannot be discarded or restored; the text says why."""


def discard(dead_letter: DeadLetter, *, by: User | None, reason: str) -> None:
    """Give up on an open letter, or on a replay that nothing was heard of.

    Raises:
        NotDiscardable: no reason was given, or it is resolved or discarded already.
    """
    if not reason.strip():
        raise NotDiscardable(_("Say why the letter is discarded: the next person will ask."))
    _move(dead_letter, (State.OPEN, State.REPLAYING), State.DISCARDED, Event.Kind.DISCARDED, by=by, reason=reason)


def restore(dead_letter: DeadLetter, *, by: User | None, reason: str = "") -> None:
    """Open a discarded letter again.

    Raises:
        NotDiscardable: it is not discarded.
    """
    _move(dead_letter, (State.DISCARDED,), State.OPEN, Event.Kind.RESTORED, by=by, reason=reason)


def discard_many(letters: Iterable[DeadLetter], *, by: User | None, reason: str) -> int:
    """Discard each letter that is open; returns how many were.

    Raises:
        NotDiscardable: no reason was given.
    """
    discarded = 0
    for letter in letters:
        try:
            discard(letter, by=by, reason=reason)
        except NotDiscardable:
            if not reason.strip():
                raise
        else:
            discarded += 1
    return discarded


def _move(
    letter: DeadLetter, sources: tuple[State, ...], target: State, kind: Event.Kind, *, by: User | None, reason: str
) -> None:
    with transaction.atomic():
        if not DeadLetter.objects.filter(pk=letter.pk, state__in=sources).update(state=target):
            letter.refresh_from_db(fields=["state"])
            raise NotDiscardable(
                _("The letter is %(state)s, not %(wanted)s.")
                % {"state": letter.get_state_display(), "wanted": " / ".join(str(source.label) for source in sources)}
            )
        Event.objects.create(
            dead_letter=letter,
            kind=kind,
            at=timezone.now(),
            actor=by,
            replay_number=letter.replay_number,
            text=reason.strip(),
        )
    letter.state = target
