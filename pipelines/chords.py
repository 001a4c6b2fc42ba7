"""The chord barrier: recomputed from the stored results, never counted down.

A counter that is deleted when the last part returned, dead or alive, cannot be repaired when a dead part is replayed. Recomputing
can be done any number of times, by parts, copies of parts, replays and sweepers: the row's lock lets one of them send the body.
"""

import json
import logging
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Any
from uuid import uuid4

from celery import maybe_signature, states
from celery.exceptions import ChordError
from celery.result import GroupResult
from django.db import connection, transaction
from django.db.models import Exists, OuterRef
from django.utils import timezone
from django_celery_results.models import TaskResult
from kombu.utils.json import dumps, loads

from deadletters.envelope import COPY_HEADER
from deadletters.faults import fault
from pipelines.models import Chord

logger = logging.getLogger(__name__)

# A result tuple as Celery writes it: ((id, parent), children or None).
ResultTuple = Sequence[Any]


def record(header: GroupResult, body: Any) -> None:
    """Remember a chord; called before its header is sent. Sending the same header again (a retried task) starts it anew."""
    chord = Chord(
        group_id=str(header.id),
        header=[result.as_tuple() for result in header],
        body=json.loads(dumps(dict(body))),
        body_id=body.options.get("task_id") or "",
    )
    renewed = ["header", "body", "body_id", "state", "waits_for", "updated_at"]
    Chord.objects.bulk_create([chord], update_conflicts=True, unique_fields=["group_id"], update_fields=renewed)


def reopen(group_ids: Iterable[str]) -> None:
    """Let failed chords wait for their parts again."""
    Chord.objects.filter(group_id__in=list(group_ids), state=Chord.State.FAILED).update(
        state=Chord.State.WAITING, updated_at=timezone.now()
    )


def missing(group_ids: Collection[str]) -> set[str]:
    """Which of these chords nothing is known of (any more)."""
    return set(group_ids) - set(Chord.objects.filter(group_id__in=list(group_ids)).values_list("group_id", flat=True))


def advance(backend: Any, group_id: str) -> Chord.State | None:  # noqa: PLR0911  (one for each state)
    """Look at the header's results and do what they ask for; the chord's state afterwards, None for an unknown chord.

    Each part looks at one other part only, as long as that has not ended: whoever ends last finds nobody to wait for. Never raises
    because of the broker or a body: the part that returned is fine, and must not become a failure for the chord's sake.
    """
    if _still_waits(group_id):
        return Chord.State.WAITING
    with transaction.atomic():
        chord = Chord.objects.select_for_update().filter(group_id=group_id).first()
        if chord is None:
            logger.warning("chord.unknown", extra={"group_id": group_id})
            return None
        if chord.state in {Chord.State.DISPATCHING, Chord.State.DONE}:
            return Chord.State(chord.state)
        ids = list(leaves(chord.header))
        if unfinished := _one_of(ids, _UNFINISHED):
            Chord.objects.filter(pk=chord.pk).update(waits_for=unfinished)
            return Chord.State.WAITING
        dead = _one_of(ids, _DEAD)
        if dead and chord.state == Chord.State.FAILED:
            return Chord.State.FAILED  # the body was told already
        _move(chord, Chord.State.FAILED if dead else Chord.State.DISPATCHING)
    fault("chord.decided")
    if dead:
        _fail_body(backend, chord, dead)
        return Chord.State.FAILED
    return _dispatch(backend, chord)


def sweep(backend: Any, older_than: timedelta = timedelta(seconds=30)) -> int:
    """Settle chords that a crash left behind: parts all in but nobody looked, a body claimed but perhaps not sent, or not told of a death.

    A body that has a result was sent. Of one that has none nobody can say; it is sent again, and the worker runs one of the copies.
    Returns how many chords moved on.
    """
    moved = 0
    stale = Chord.objects.filter(
        state__in=(Chord.State.WAITING, Chord.State.DISPATCHING), updated_at__lt=timezone.now() - older_than
    )
    for chord in stale.only("group_id", "state", "body_id").iterator():
        if chord.state == Chord.State.DISPATCHING:
            if TaskResult.objects.filter(task_id=chord.body_id).exclude(status=states.PENDING).exists():
                moved += Chord.objects.filter(pk=chord.pk, state=Chord.State.DISPATCHING).update(state=Chord.State.DONE)
                continue
            Chord.objects.filter(pk=chord.pk, state=Chord.State.DISPATCHING).update(state=Chord.State.WAITING)
        moved += advance(backend, chord.group_id) in {Chord.State.DONE, Chord.State.FAILED}
    return moved + _tell_bodies(backend, older_than)


def _tell_bodies(backend: Any, older_than: timedelta) -> int:
    """Failed chords whose body does not know of it yet: a crash between the two."""
    waiting = TaskResult.objects.filter(task_id=OuterRef("body_id")).exclude(status=states.PENDING)
    failed = Chord.objects.filter(state=Chord.State.FAILED, updated_at__lt=timezone.now() - older_than)
    untold = list(failed.exclude(body_id="").exclude(Exists(waiting))[:100])
    for chord in untold:
        culprit = TaskResult.objects.filter(task_id__in=list(leaves(chord.header)), status__in=states.PROPAGATE_STATES)
        _fail_body(backend, chord, culprit.values_list("task_id", flat=True).first() or chord.group_id)
    return len(untold)


def leaves(results: Iterable[ResultTuple]) -> Iterator[str]:
    """The task ids at the ends of nested result tuples, in order."""
    for (task_id, _parent), children in results:
        if children:
            yield from leaves(children)
        else:
            yield task_id


def as_copy(body: dict[str, Any], copy: str) -> dict[str, Any]:
    """The body's signature with the id of this sending in each message that it is sent as: a chain's first, all of a group."""
    kwargs, kind = body.get("kwargs") or {}, body.get("subtask_type")
    if kind == "chord":
        return {**body, "kwargs": {**kwargs, "header": _copies(kwargs.get("header"), copy)}}
    if kind == "group":
        return {**body, "kwargs": {**kwargs, "tasks": _copies(kwargs.get("tasks"), copy)}}
    if kind == "chain" and kwargs.get("tasks"):
        first, *rest = kwargs["tasks"]
        return {**body, "kwargs": {**kwargs, "tasks": [as_copy(first, copy), *rest]}}
    options = body.get("options") or {}
    return {**body, "options": {**options, "headers": {**(options.get("headers") or {}), COPY_HEADER: copy}}}


def _copies(signatures: Any, copy: str) -> Any:
    if isinstance(signatures, dict):
        return as_copy(signatures, copy)
    return [as_copy(signature, copy) for signature in signatures or ()]


# One question a part, without a lock: the part that is looked at has yet to look itself.
_WAITS = f"""
    SELECT FROM {Chord._meta.db_table} chord
      LEFT JOIN {TaskResult._meta.db_table} result ON result.task_id = chord.waits_for
     WHERE chord.group_id = %s AND chord.state = 'waiting' AND chord.waits_for <> ''
       AND (result.status IS NULL OR result.status NOT IN ('SUCCESS', 'FAILURE', 'REVOKED'))
"""
_MEMBER = f"""
    SELECT member.id FROM unnest(%s::text[]) WITH ORDINALITY AS member (id, place)
      LEFT JOIN {TaskResult._meta.db_table} result ON result.task_id = member.id
"""  # noqa: S608
# Any of them, by lot: of 10,000 parts some fifteen are looked at, in whatever order they end.
_UNFINISHED = (
    _MEMBER
    + "WHERE result.status IS NULL OR result.status NOT IN ('SUCCESS', 'FAILURE', 'REVOKED') ORDER BY random() LIMIT 1"
)
_DEAD = _MEMBER + "WHERE result.status IN ('FAILURE', 'REVOKED') ORDER BY member.place LIMIT 1"


def _still_waits(group_id: str) -> bool:
    with connection.cursor() as cursor:
        cursor.execute(_WAITS, [group_id])
        return bool(cursor.rowcount)


def _one_of(ids: list[str], which: str) -> str:
    """One of these parts, or "" when there is none."""
    with connection.cursor() as cursor:
        cursor.execute(which, [ids])
        row = cursor.fetchone()
    return row[0] if row else ""


def _rows(chord: Chord) -> dict[str, TaskResult]:
    found = TaskResult.objects.filter(task_id__in=list(leaves(chord.header)))
    return {row.task_id: row for row in found.only("task_id", "result", "content_encoding")}


def _values(backend: Any, results: Iterable[ResultTuple], rows: dict[str, TaskResult]) -> list[Any]:
    """What the body is called with: the header's results in order, nested groups as lists."""
    values = []
    for (task_id, _parent), children in results:
        row = rows.get(task_id)
        values.append(
            _values(backend, children, rows) if children else backend.decode_content(row, row.result if row else None)
        )
    return values


def _fail_body(backend: Any, chord: Chord, culprit: str) -> None:
    body: Any = maybe_signature(loads(json.dumps(chord.body)), app=backend.app)
    try:
        # Celery reads the exception from the stack: outside of an except block it would take the last *successful* part's.
        raise ChordError(f"Dependency {culprit} died; the chord's body waits for its replay")
    except ChordError as error:
        backend.chord_error_from_stack(body, error)
    options = (chord.body or {}).get("options") or {}
    if options.get("chord") and options.get("group_id"):
        advance(backend, options["group_id"])  # Celery does not tell the outer chord of a nested one


def _dispatch(backend: Any, chord: Chord) -> Chord.State:
    rows = _rows(chord)
    body: Any = maybe_signature(as_copy(loads(json.dumps(chord.body)), str(uuid4())), app=backend.app)
    try:
        backend.app.amqp._retry_publish(body.delay, _values(backend, chord.header, rows))
    except Exception:
        # Whatever the broker or the body's signature raised: the sweeper tries again.
        logger.exception("chord.body_not_sent", extra={"group_id": chord.group_id, "task_id": chord.body_id})
        _left_dispatching(chord, Chord.State.WAITING)
        return Chord.State.WAITING
    fault("chord.body_sent")
    _left_dispatching(chord, Chord.State.DONE)
    return Chord.State.DONE


def _move(chord: Chord, state: Chord.State) -> None:
    chord.state = state
    chord.save(update_fields=["state", "updated_at"])


def _left_dispatching(chord: Chord, state: Chord.State) -> None:
    # Publishing may have taken so long that the sweeper took over: what it decided stays.
    Chord.objects.filter(pk=chord.pk, state=Chord.State.DISPATCHING).update(state=state, updated_at=timezone.now())
