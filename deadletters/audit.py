"""Write down who did what: one act a verb call, in the verb's own transaction."""

import getpass
import socket
from datetime import timedelta
from typing import Any

from django.contrib.auth.models import User
from django.db import connection, transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from deadletters.models import Act, DeadLetter, RedriveItem

_BATCH = 10_000


def record(
    verb: Act.Verb,
    *,
    by: User | str | None,
    number: int = 1,
    reason: str = "",
    origin: str = "",
    letter: DeadLetter | None = None,
    subject: str = "",
    **about: Any,
) -> Act:
    """Append one act. `by`: a user, the name of what acted by itself, or None for the platform; `about` are further columns of Act."""
    if letter is not None:
        about = {
            "dead_letter_id": letter.pk,
            "fingerprint": letter.fingerprint,
            "root_id": letter.root_id or letter.task_id,
            **about,
        }
        subject = subject or letter.task_name or letter.task_id
    return Act.objects.create(
        at=timezone.now(),
        verb=verb,
        who=name_of(by),
        number=number,
        reason=reason.strip(),
        origin=origin[:255],
        subject=subject[:500],
        **about,
    )


def name_of(by: User | str | None) -> str:
    """How the trail calls who acted; empty: the platform."""
    return (by if isinstance(by, str) else by.get_username() if by else "")[:150]


def of_command(name: str) -> str:
    """The origin of an act that a command does: the command, and the machine's user who ran it."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = "?"
    return f"manage.py {name} ({user}@{socket.gethostname()})"


def acts_of(letters: "QuerySet[DeadLetter]", shown: int = 50, *, root: str = "") -> list[Act]:
    """What was done with these letters, one by one or in a redrive, and with the workflow `root` itself; newest first."""
    ids = list(letters.order_by().values_list("pk", flat=True)[:10_000])
    redrives = RedriveItem.objects.filter(dead_letter_id__in=ids).values("redrive_id").distinct()
    found = Q(dead_letter_id__in=ids) | Q(redrive_id__in=redrives)
    return list(Act.objects.filter(found | Q(root_id=root) if root else found)[:shown])


def prune_acts(older_than: timedelta, *, dry_run: bool = False) -> int:
    """Delete acts older than that: the one way in which any ever go. Returns how many went (or would)."""
    before, deleted = timezone.now() - older_than, 0
    if dry_run:
        return Act.objects.filter(at__lt=before).count()
    while True:
        with transaction.atomic(), connection.cursor() as cursor:
            # The database refuses a DELETE without this, which ends with the transaction.
            cursor.execute("SET LOCAL deadletters.retention = 'on'")
            cursor.execute(
                "DELETE FROM deadletters_act WHERE id IN (SELECT id FROM deadletters_act WHERE at < %s ORDER BY at LIMIT %s)",
                [before, _BATCH],
            )
            gone: int = cursor.rowcount
        deleted += gone
        if gone < _BATCH:
            return deleted
