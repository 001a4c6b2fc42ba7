"""The chord barrier: recomputed from the stored results, never counted down.

A counter that is deleted when the last part returned, dead or alive, cannot be repaired when a dead part is replayed. Recomputing
can be done any number of times, by parts, copies of parts, replays and sweepers: the row's lock lets one of them send the body.
"""

import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Any

from celery import maybe_signature, states
from celery.exceptions import ChordError
from celery.result import GroupResult
from django.db import close_old_connections, connection, transaction
from django.db.models import Exists, OuterRef
from django.utils import timezone
from django_celery_results.models import TaskResult
from kombu.utils.json import dumps, loads

from pipelines.models import Chord

logger = logging.getLogger(__name__)

# A result tuple as Celery writes it: ((id, parent), children or None).
ResultTuple = Sequence[Any]


def record(header: GroupResult, body: Any) -> None:
    """Remember a chord; called before its header is sent. Sending the same header again (a retried task) starts it anew."""
    Chord.objects.update_or_create(
        group_id=header.id,
        defaults={
            "header": [result.as_tuple() for result in header],
            "body": json.loads(dumps(dict(body))),
            "body_id": body.options.get("task_id") or "",
            "state": Chord.State.WAITING,
        },
    )


def reopen(group_ids: Iterable[str]) -> None:
    """Let failed chords wait for their parts again."""
    Chord.objects.filter(group_id__in=list(group_ids), state=Chord.State.FAILED).update(
        state=Chord.State.WAITING, updated_at=timezone.now()
    )


def advance(backend: Any, group_id: str) -> Chord.State | None:
    """Look at the header's results and do what they ask for; the chord's state afterwards, None for an unknown chord.

    Never raises because of the broker or a body: the part that returned is fine, and must not become a failure for the chord's sake.
    """
    if not connection.in_atomic_block:
        close_old_connections()  # also called from a worker's main process, which renews no connection
    with transaction.atomic():
        chord = Chord.objects.select_for_update().filter(group_id=group_id).first()
        if chord is None:
            logger.warning("chord.unknown", extra={"group_id": group_id})
            return None
        if chord.state in {Chord.State.DISPATCHING, Chord.State.DONE}:
            return Chord.State(chord.state)
        ids = list(leaves(chord.header))
        known = dict(TaskResult.objects.filter(task_id__in=ids).values_list("task_id", "status"))
        if any(known.get(task_id) not in states.READY_STATES for task_id in ids):
            return Chord.State.WAITING
        dead = [task_id for task_id in ids if known[task_id] in states.PROPAGATE_STATES]
        if dead and chord.state == Chord.State.FAILED:
            return Chord.State.FAILED  # the body was told already
        _move(chord, Chord.State.FAILED if dead else Chord.State.DISPATCHING)
    if dead:
        _fail_body(backend, chord, dead[0])
        return Chord.State.FAILED
    return _dispatch(backend, chord)


def sweep(backend: Any, older_than: timedelta = timedelta(seconds=30)) -> int:
    """Settle chords that a crash left behind: parts all in but nobody looked, a body claimed but perhaps not sent, or not told of a death.

    Looks before it sends: a body that has a result was sent. (One that still waits in its queue has none, and is sent again: a
    crash in that moment can run a body twice, never not at all.) Returns how many chords moved on.
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


def _rows(chord: Chord) -> dict[str, TaskResult | None]:
    ids = list(leaves(chord.header))
    found = {row.task_id: row for row in TaskResult.objects.filter(task_id__in=ids)}
    return {task_id: found.get(task_id) for task_id in ids}


def _values(backend: Any, results: Iterable[ResultTuple], rows: dict[str, TaskResult | None]) -> list[Any]:
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


def _dispatch(backend: Any, chord: Chord) -> Chord.State:
    rows = _rows(chord)
    body: Any = maybe_signature(loads(json.dumps(chord.body)), app=backend.app)
    try:
        backend.app.amqp._retry_publish(body.delay, _values(backend, chord.header, rows))
    except Exception:
        # Whatever the broker or the body's signature raised: the sweeper tries again.
        logger.exception("chord.body_not_sent", extra={"group_id": chord.group_id, "task_id": chord.body_id})
        _left_dispatching(chord, Chord.State.WAITING)
        return Chord.State.WAITING
    _left_dispatching(chord, Chord.State.DONE)
    return Chord.State.DONE


def _move(chord: Chord, state: Chord.State) -> None:
    chord.state = state
    chord.save(update_fields=["state", "updated_at"])


def _left_dispatching(chord: Chord, state: Chord.State) -> None:
    # Publishing may have taken so long that the sweeper took over: what it decided stays.
    Chord.objects.filter(pk=chord.pk, state=Chord.State.DISPATCHING).update(state=state, updated_at=timezone.now())
