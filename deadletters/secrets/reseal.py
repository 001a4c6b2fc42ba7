"""Seal stored payloads with the newest key, and mask stored texts by today's names."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.db import connection, transaction

from deadletters.envelope import Envelope, NoEnvelope
from deadletters.models import DeadLetter, Original
from deadletters.secrets import seal
from deadletters.secrets.redact import redactor

# Rows that are locked and in memory at once; a body may be megabytes.
_BATCH = 25
_WRITE = """
    UPDATE deadletters_deadletter SET headers = %s, properties = %s, body = %s, sealed = %s, seal_key = %s,
           exception_message = %s, traceback = %s WHERE id = %s
"""

# Told after each batch.
Tell = Callable[["Resealed"], None]


@dataclass(slots=True)
class Resealed:
    """What was done (or would be)."""

    # Letters, and originals of edited ones, that are now as they should be, and were not.
    done: int = 0
    # Their key is lost: they stay as they are.
    lost: int = 0
    # Held by somebody just now.
    busy: int = 0


def reseal(*, mask: bool = False, dry_run: bool = False, tell: Tell = lambda _so_far: None) -> Resealed:
    """Bring every letter under the newest key; with `mask`, mask messages and tracebacks again, too. Safe to stop and to repeat."""
    newest, resealed, after = seal.newest(), Resealed(), 0
    letters = DeadLetter.objects.order_by("pk")
    wanted = letters if mask else letters.exclude(seal_key=newest).filter(payload_kept=True)
    while batch := list(wanted.filter(pk__gt=after).values_list("pk", flat=True)[:_BATCH]):
        with transaction.atomic():
            rows = list(letters.filter(pk__in=batch).select_for_update(skip_locked=True))
            values = [value for value in (_row(letter, newest, resealed) for letter in rows) if value]
            if values and not dry_run:
                with connection.cursor() as cursor:
                    cursor.executemany(_WRITE, values)
        resealed.done += len(values)
        resealed.busy += len(batch) - len(rows)
        after = batch[-1]
        tell(resealed)
    _reseal_originals(newest, resealed, dry_run=dry_run)
    return resealed


def _reseal_originals(newest: str, resealed: Resealed, *, dry_run: bool) -> None:
    """What letters were before somebody edited them holds the same secrets."""
    for original in Original.objects.exclude(seal_key=newest).iterator(chunk_size=_BATCH):
        stored = {name: getattr(original, name) for name in ("headers", "properties", "body", "sealed", "seal_key")}
        try:
            payload = Envelope.of(DeadLetter(**stored)).columns()
        except NoEnvelope:
            resealed.lost += 1
            continue
        resealed.done += 1
        if not dry_run:
            payload = {
                **payload,
                "headers": json.loads(payload["headers"]),
                "properties": json.loads(payload["properties"]),
            }
            Original.objects.filter(pk=original.pk).update(**payload)


def _row(letter: DeadLetter, newest: str, resealed: Resealed) -> tuple[Any, ...] | None:
    """The new values of one letter; None when they are the old ones, or its key is lost."""
    mask = redactor()
    texts = (mask.text(letter.exception_message), mask.text(letter.traceback))
    same = letter.seal_key == newest or not letter.payload_kept
    if same and texts == (letter.exception_message, letter.traceback):
        return None
    try:
        payload = Envelope.of(letter).columns() if letter.payload_kept else {}
    except NoEnvelope:
        resealed.lost += 1
        return None
    old = {"headers": "{}", "properties": "{}", "body": b"", "sealed": None, "seal_key": ""}
    return (*{**old, **payload}.values(), *texts, letter.pk)
