"""Pause a schedule with a reason, and let it go on. What falls due in between is recorded as skipped, not caught up."""

from datetime import datetime

from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from schedules import trail
from schedules.models import Policy, Schedule


class NotPaused(Exception):
    """Nothing was changed. str() says why."""


@transaction.atomic
def pause(schedule: Schedule, *, reason: str, by: User, until: datetime | None = None) -> None:
    """Send nothing from now on, until a moment or until somebody resumes it.

    Raises:
        NotPaused: no reason is given, or the end has passed.
    """
    if not reason.strip():
        raise NotPaused(_("Say why “%s” is paused: others will wonder.") % schedule.name)
    if until and until <= timezone.now():
        raise NotPaused(_("“%s” cannot be paused until a moment that has passed.") % schedule.name)
    facts = {
        "paused_at": timezone.now(),
        "paused_until": until,
        "pause_reason": reason[:500],
        "pause_why": None,  # a person's, word for word
        "paused_by": by.get_username(),
    }
    Policy.objects.update_or_create(schedule_id=schedule.pk, defaults=facts)
    if until:
        trail.acted(schedule, by, "act_paused_until", until=until.isoformat(), text=reason)
    else:
        trail.acted(schedule, by, "act_paused", text=reason)


@transaction.atomic
def resume(schedule: Schedule, *, by: User) -> bool:
    """Let it go on, counted from now. Returns whether it was paused."""
    # The reason stays: the occurrences that are skipped for it name it.
    facts = {"paused_at": None, "paused_until": None, "resumed_at": timezone.now()}
    changed = Policy.objects.filter(schedule_id=schedule.pk, paused_at__isnull=False).update(**facts)
    if changed:
        trail.acted(schedule, by, "act_resumed")
    return bool(changed)
