"""Claim a slice of a redrive: a thousand letters in a few statements, each of which is sent once."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from celery import current_app
from django.db import connection
from django.db.models import Exists, OuterRef
from django.db.models.functions import Coalesce, Length

from deadletters.envelope import COPY_HEADER, REPLAY_HEADER, NoEnvelope
from deadletters.models import DeadLetter, Redrive, RedriveItem, State
from deadletters.replay import preflight, workflow
from deadletters.replay.claim import message
from deadletters.replay.publish import Ready
from deadletters.selection import Selection

# Bodies of one slice: it is in memory some times over, and goes to Redis in one piece.
_BYTES = 16 * 2**20

_LETTERS, _ITEMS = DeadLetter._meta.db_table, RedriveItem._meta.db_table
# One update a letter: `sent_at` is set with the claim, for the redrive itself remembers the slice that may not be sent yet. The headers
# and properties come back as the JSON text that goes to the broker. S608: every name is ours; all values are parameters.
_CLAIM = f"""
    WITH claimed AS (
        UPDATE {_LETTERS} AS letter
           SET state = 'replaying', replay_number = replay_number + 1, claimed_at = now(), sent_at = now(), started_copy = NULL
         WHERE id = ANY(%(ids)s) AND state = 'open'
        RETURNING id, task_id, queue, priority, headers, properties, body, content_type, content_encoding, replay_number, task_name
    ), item AS (
        INSERT INTO {_ITEMS} (redrive_id, dead_letter_id, replay_number, outcome, why)
        SELECT %(redrive)s, id, replay_number, 'sent', '' FROM claimed
    )
    SELECT id, task_id, queue, priority,
           (headers || jsonb_build_object('retries', 0, 'eta', NULL, 'expires', NULL,
                                          '{REPLAY_HEADER}', replay_number, '{COPY_HEADER}', gen_random_uuid()))::text,
           jsonb_strip_nulls(properties - 'expiration')::text, body, content_type, content_encoding, task_name
      FROM claimed ORDER BY id
"""  # noqa: S608
_SKIP = f"""
    INSERT INTO {_ITEMS} (redrive_id, dead_letter_id, replay_number, outcome, why)
    SELECT %(redrive)s, id, 0, 'skipped', why FROM unnest(%(ids)s::bigint[], %(whys)s::text[]) AS skipped (id, why)
    ON CONFLICT (redrive_id, dead_letter_id) DO UPDATE SET outcome = 'skipped', why = excluded.why
"""  # noqa: S608
_RELEASE = f"""
    UPDATE {_LETTERS} SET state = 'open', replay_number = replay_number - 1, claimed_at = NULL, sent_at = NULL
     WHERE id = ANY(%(ids)s) AND state = 'replaying'
"""  # noqa: S608


@dataclass(slots=True)
class Slice:
    """The letters of one slice: what is to be sent, and why others are not (letter -> reason)."""

    messages: list[Ready] = field(default_factory=list)
    skipped: dict[int, str] = field(default_factory=dict)


def next_ids(redrive: Redrive, room: int) -> list[int]:
    """The next letters of the redrive, in order, as many as fit into memory; not those that it has handled already and that are open again."""
    letters = Selection.from_json(redrive.selection).letters()
    handled = RedriveItem.objects.filter(redrive=redrive, dead_letter_id=OuterRef("pk"))
    mine = letters.filter(~Exists(handled), pk__gt=redrive.cursor, pk__lte=redrive.upto)
    if redrive.until is not None:
        mine = mine.filter(died_at__lte=redrive.until)
    ids: list[int] = []
    left = _BYTES
    for pk, size in mine.order_by("pk").values_list("pk", Coalesce(Length("sealed"), Length("body")))[:room]:
        left -= size
        if ids and left < 0:
            break
        ids.append(pk)
    return ids


def claim_slice(redrive: Redrive, ids: Sequence[int]) -> Slice:
    """Claim those of these letters that are open, and re-open their workflows; part of the caller's transaction.

    What should not be sent is released again within it, so that nobody ever sees it claimed.
    """
    with connection.cursor() as cursor:
        cursor.execute(_CLAIM, {"redrive": redrive.pk, "ids": list(ids)})
        rows = [(Ready._make((*row[:6], bytes(row[6]), *row[7:9])), row[9]) for row in cursor.fetchall()]
    skipped = preflight.blocked([_candidate(ready, task_name) for ready, task_name in rows])
    mine = [ready for ready, _task_name in rows if ready.letter_id not in skipped]
    alone = [ready for ready in mine if ready.body.endswith(workflow.ALONE)]
    others: list[Ready] = []
    if len(alone) < len(mine):
        others, stuck = _open_workflows([ready.letter_id for ready in mine if not ready.body.endswith(workflow.ALONE)])
        skipped |= stuck
    _reset([ready.task_id for ready in alone])
    if skipped:
        with connection.cursor() as cursor:
            cursor.execute(_RELEASE, {"ids": list(skipped)})
        skip(redrive, skipped)
    return Slice(sorted([*alone, *others]), skipped)


def _candidate(ready: Ready, task_name: str) -> preflight.Candidate:
    return preflight.Candidate(
        ready.letter_id, ready.task_id, task_name, ready.queue, ready.body, ready.content_type, ready.content_encoding
    )


def skip(redrive: Redrive, why: dict[int, str]) -> None:
    """Note letters that are not sent."""
    if not why:
        return
    with connection.cursor() as cursor:
        whys = [text[:300] for text in why.values()]
        cursor.execute(_SKIP, {"redrive": redrive.pk, "ids": list(why), "whys": whys})


def unsettled(redrive: Redrive) -> tuple[list[Ready], int]:
    """What a crash left between claimed and sent: the messages whose letters still wait for their end, and how many letters there were.

    The messages are new copies: if the first ones were sent, a worker begins one of the two.
    """
    left = RedriveItem.objects.filter(
        redrive=redrive,
        dead_letter_id__gt=redrive.sent_to,
        dead_letter_id__lte=redrive.cursor,
        outcome=RedriveItem.Outcome.SENT,
    )
    numbers = dict(left.values_list("dead_letter_id", "replay_number"))
    letters = DeadLetter.objects.filter(pk__in=numbers, state=State.REPLAYING, started_copy=None).order_by("pk")
    messages, hidden = [], []
    for letter in letters:
        if letter.replay_number != numbers[letter.pk]:
            continue
        try:
            messages.append(Ready.of(letter, message(letter)))
        except NoEnvelope:
            hidden.append(letter.pk)
    # The key of these was taken away since they were claimed: the sweep opens them again. It looks at what is not known to be sent.
    DeadLetter.objects.filter(pk__in=hidden, state=State.REPLAYING).update(sent_at=None)
    return messages, len(numbers)


def _open_workflows(ids: Collection[int]) -> tuple[list[Ready], dict[int, str]]:
    """The letters that have something behind them, or whose message must be opened first; and why others cannot be replayed."""
    letters = list(DeadLetter.objects.filter(pk__in=ids))
    stuck: dict[int, str] = {letter.pk: why for letter, why in workflow.reopen(letters)}
    return [Ready.of(letter, message(letter)) for letter in letters if letter.pk not in stuck], stuck


def _reset(task_ids: Sequence[str]) -> None:
    """Take back the failure of tasks that nothing waits behind."""
    backend = current_app.backend
    if task_ids and hasattr(backend, "reopen"):
        backend.reopen(dict.fromkeys(task_ids), {})
