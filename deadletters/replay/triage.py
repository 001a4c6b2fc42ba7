"""What people say about an error as a whole: fixed, open again, given up, a note, whose it is."""

from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from deadletters import audit
from deadletters.models import Act, DeadLetter, ErrorGroup
from deadletters.replay.discard import discard_many

_OPEN = (ErrorGroup.State.OPEN, ErrorGroup.State.REGRESSED)


class NotTriaged(Exception):
    """The error cannot be moved so; the text says why."""


def resolve(group: ErrorGroup, *, by: User, reason: str = "", origin: str = "") -> None:
    """Say that the bug is fixed. Its open letters stay, to be replayed; the next death opens it again as regressed.

    Raises:
        NotTriaged: it is resolved or discarded already.
    """
    with transaction.atomic():
        _move(group, _OPEN, ErrorGroup.State.RESOLVED)
        _record(Act.Verb.ERROR_RESOLVED, group, by, reason, origin)


def reopen(group: ErrorGroup, *, by: User, reason: str = "", origin: str = "") -> None:
    """Take `resolve` or `discard` back; letters that were discarded stay so, they can be restored.

    Raises:
        NotTriaged: it is open.
    """
    with transaction.atomic():
        _move(group, (ErrorGroup.State.RESOLVED, ErrorGroup.State.DISCARDED), ErrorGroup.State.OPEN)
        _record(Act.Verb.ERROR_REOPENED, group, by, reason, origin)


def discard(group: ErrorGroup, *, by: User, reason: str, origin: str = "") -> int:
    """Give up on the error and on all of its open letters; returns how many. The next death opens it again.

    Raises:
        NotTriaged: it is discarded already.
        NotDiscardable: no reason was given.
    """
    with transaction.atomic():
        letters = DeadLetter.objects.open().filter(fingerprint=group.fingerprint)
        about = {"origin": origin, "subject": str(group), "error": group.fingerprint}
        discarded = discard_many(letters, by=by, reason=reason, verb=Act.Verb.ERROR_DISCARDED, **about)
        # The last lock, for each death of this error waits behind it. Then what died meanwhile: nothing mostly.
        _move(group, (*_OPEN, ErrorGroup.State.RESOLVED), ErrorGroup.State.DISCARDED)
        return discarded + discard_many(letters, by=by, reason=reason, **about)


def annotate(group: ErrorGroup, note: str, *, by: User, origin: str = "") -> None:
    """Write the note; the one before it stays in the audit trail."""
    with transaction.atomic():
        locked = ErrorGroup.objects.select_for_update().get(pk=group.pk)
        if locked.note == note.strip():
            return
        before, locked.note = locked.note, note.strip()
        locked.save(update_fields=["note"])
        _record(Act.Verb.ERROR_NOTED, group, by, locked.note, origin, before=before)


def assign(group: ErrorGroup, to: User | None, *, by: User, origin: str = "") -> None:
    """Say whose it is; None: nobody's."""
    with transaction.atomic():
        locked = ErrorGroup.objects.select_for_update().get(pk=group.pk)
        if locked.assignee_id == (to.pk if to else None):
            return
        locked.assignee = to
        locked.save(update_fields=["assignee"])
        _record(Act.Verb.ERROR_ASSIGNED, group, by, to.get_username() if to else _("nobody"), origin)


def _move(group: ErrorGroup, sources: tuple[ErrorGroup.State, ...], target: ErrorGroup.State) -> None:
    movable = ErrorGroup.objects.filter(pk=group.pk, state__in=sources)
    if not movable.update(state=target, changed_at=timezone.now()):
        group.refresh_from_db()
        raise NotTriaged(_("The error is %s already.") % group.get_state_display().lower())
    group.state = target


def _record(verb: Act.Verb, group: ErrorGroup, by: User, reason: str, origin: str, **details: str) -> None:
    audit.record(
        verb,
        by=by,
        number=0,
        reason=reason,
        origin=origin,
        subject=str(group),
        fingerprint=group.fingerprint,
        details=details,
    )
