"""Delete letters that nobody needs any more."""

from datetime import timedelta

from django.db import transaction
from django.utils import timezone

from deadletters.models import DeadLetter, State

# Small enough that no batch holds its locks for more than some milliseconds.
_BATCH = 1_000


def prunable(older_than: timedelta) -> int:
    """How many letters `prune_letters` would delete."""
    return DeadLetter.objects.filter(
        state__in=(State.RESOLVED, State.DISCARDED), died_at__lt=timezone.now() - older_than
    ).count()


def prune_letters(older_than: timedelta) -> int:
    """Delete resolved and discarded letters that died longer ago than `older_than`; open ones stay. Returns how many went."""
    before, deleted = timezone.now() - older_than, 0
    while True:
        with transaction.atomic():
            finished = DeadLetter.objects.filter(state__in=(State.RESOLVED, State.DISCARDED), died_at__lt=before)
            batch = list(
                finished.select_for_update(skip_locked=True).order_by("pk").values_list("pk", flat=True)[:_BATCH]
            )
            if not batch:
                return deleted
            DeadLetter.objects.filter(pk__in=batch).delete()
            deleted += len(batch)
