"""Count what became of a redrive's letters, from the trails that the replays leave."""

from collections import Counter
from datetime import timedelta

from django.db import connection, transaction
from django.db.models import F
from django.utils import timezone
from django.utils.translation import gettext as _

from deadletters.models import Event, Redrive, RedriveItem

# After so long without an outcome nobody waits any more; letters that are still replaying are the sweep's.
_PATIENCE = timedelta(days=1)

_ITEMS, _EVENTS = RedriveItem._meta.db_table, Event._meta.db_table
# S608: every name is ours. The first end of this very replay: it may have been replayed once more since.
_ENDED = f"""
    SELECT item.dead_letter_id, event.kind, event.text
      FROM {_ITEMS} AS item CROSS JOIN LATERAL (
           SELECT kind, text FROM {_EVENTS}
            WHERE dead_letter_id = item.dead_letter_id AND replay_number = item.replay_number
              AND kind IN ('succeeded', 'died', 'not_sent', 'discarded')
            ORDER BY id LIMIT 1) AS event
     WHERE item.redrive_id = %(redrive)s AND item.outcome = 'sent' AND item.dead_letter_id <= %(sent_to)s
"""  # noqa: S608
_OUTCOME_OF = {Event.Kind.SUCCEEDED: RedriveItem.Outcome.SUCCEEDED, Event.Kind.DIED: RedriveItem.Outcome.DIED}


def tally(redrive: Redrive) -> None:
    """Move the redrive's numbers on, and end it when everything has an outcome. `redrive` has the new ones afterwards.

    Whoever comes while another counts, or while a slice is being claimed, only reads: two would wait for each other's rows, for ever.
    """
    with transaction.atomic():
        if (locked := Redrive.objects.select_for_update(skip_locked=True).filter(pk=redrive.pk).first()) is not None:
            _count(locked)
    redrive.refresh_from_db()
    if redrive.state == Redrive.State.WATCHING:
        _end(redrive)


def _count(redrive: Redrive) -> None:
    new = _note(redrive)
    if any(new.values()):
        Redrive.objects.filter(pk=redrive.pk).update(
            succeeded=F("succeeded") + new[RedriveItem.Outcome.SUCCEEDED],
            died=F("died") + new[RedriveItem.Outcome.DIED],
            skipped=F("skipped") + new[RedriveItem.Outcome.SKIPPED],
            sent=F("sent") - new[RedriveItem.Outcome.SKIPPED],
            moved_at=timezone.now(),
        )


def _note(redrive: Redrive) -> Counter[str]:
    """Write down the new outcomes and count them."""
    with connection.cursor() as cursor:
        # What is claimed but not known to be sent is not counted as sent yet, either.
        cursor.execute(_ENDED, {"redrive": redrive.pk, "sent_to": redrive.sent_to})
        ended = cursor.fetchall()
    letters: dict[tuple[str, str], list[int]] = {}
    for letter_id, kind, text in ended:
        outcome: str = _OUTCOME_OF.get(kind, RedriveItem.Outcome.SKIPPED)
        letters.setdefault((outcome, text[:300] if outcome == RedriveItem.Outcome.SKIPPED else ""), []).append(
            letter_id
        )
    new: Counter[str] = Counter()
    waiting = RedriveItem.objects.filter(redrive=redrive, outcome=RedriveItem.Outcome.SENT)
    for (known, why), ids in letters.items():
        new[known] += waiting.filter(dead_letter_id__in=ids).update(outcome=known, why=why)
    return new


def awaited(redrive: Redrive) -> int:
    """How many letters are on their way."""
    return RedriveItem.objects.filter(redrive=redrive, outcome=RedriveItem.Outcome.SENT).count()


def _end(redrive: Redrive) -> None:
    left = awaited(redrive)
    if left and timezone.now() - redrive.moved_at < _PATIENCE:
        return
    why = _("Nothing was heard of %d letters.") % left if left else ""
    watching = Redrive.objects.filter(pk=redrive.pk, state=Redrive.State.WATCHING)
    watching.update(state=Redrive.State.DONE, why=why, ended_at=timezone.now())
    redrive.refresh_from_db()
