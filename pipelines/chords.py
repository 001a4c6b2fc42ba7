"""The chord barrier: recomputed from the stored results, never counted down.

A counter that is deleted when the last part returned, dead or alive, cannot be repaired when a dead part is replayed. Recomputing
can be done any number of times, by parts, copies of parts, replays and sweepers: the row's lock lets one of them send the body.
"""

import logging
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from uuid import uuid4

from celery import maybe_signature, states
from celery.exceptions import ChordError, SoftTimeLimitExceeded
from celery.result import GroupResult
from django.db import DatabaseError, InterfaceError, OperationalError, transaction
from django.utils import timezone
from kombu.utils.json import dumps, loads

from deadletters.envelope import COPY_HEADER
from deadletters.faults import fault
from deadletters.replay.downstream import behind
from pipelines.models import Chord

logger = logging.getLogger(__name__)

# A result tuple as Celery writes it: ((id, parent), children or None).
ResultTuple = Sequence[Any]


def record(header: GroupResult, body: Any) -> None:
    """Remember a chord; called before its header is sent. Sending the same header again (a retried task) starts it anew."""
    chord = Chord(
        group_id=str(header.id),
        header=[result.as_tuple() for result in header],
        body=dumps(dict(body)),
        body_id=body.options.get("task_id") or "",
    )
    renewed = ["header", "body", "body_id", "state", "waits_for", "updated_at"]
    Chord.objects.bulk_create([chord], update_conflicts=True, unique_fields=["group_id"], update_fields=renewed)


def reopen(group_ids: Iterable[str]) -> None:
    """Let failed chords wait for their parts again. Before the parts are reset: whoever looks at them just now decides first."""
    locked = Chord.objects.filter(group_id__in=list(group_ids)).order_by("pk").select_for_update()
    failed = [pk for pk, state in locked.values_list("pk", "state") if state == Chord.State.FAILED]
    Chord.objects.filter(pk__in=failed).update(state=Chord.State.WAITING, updated_at=timezone.now())


def missing(group_ids: Collection[str]) -> set[str]:
    """Which of these chords nothing is known of (any more)."""
    return set(group_ids) - set(Chord.objects.filter(group_id__in=list(group_ids)).values_list("group_id", flat=True))


def advance(backend: Any, group_id: str) -> Chord.State | None:  # noqa: PLR0911  (one for each state)
    """Look at the header's results and do what they ask for; the chord's state afterwards, None for an unknown chord.

    Each part looks at one other part only, as long as that has not ended: whoever ends last finds nobody to wait for. Never raises
    because of the broker or a body: the part that returned is fine, and must not become a failure for the chord's sake.
    """
    waits = Chord.objects.filter(group_id=group_id, state=Chord.State.WAITING).exclude(waits_for="")
    waits_for = waits.values_list("waits_for", flat=True).first()
    # Without a lock: the part that is looked at has yet to look itself.
    if waits_for and backend.standing([waits_for]).unfinished:
        return Chord.State.WAITING
    with transaction.atomic():
        chord = Chord.objects.select_for_update().filter(group_id=group_id).first()
        if chord is None:
            logger.warning("chord.unknown", extra={"group_id": group_id})
            return None
        if chord.state in {Chord.State.DISPATCHING, Chord.State.DONE}:
            return Chord.State(chord.state)
        ids = list(leaves(chord.header))
        unfinished, dead = backend.standing(ids)
        if unfinished:
            Chord.objects.filter(pk=chord.pk).update(waits_for=unfinished)
            return Chord.State.WAITING
        if dead and chord.state == Chord.State.FAILED:
            return Chord.State.FAILED  # the body was told already
        chord.state = Chord.State.FAILED if dead else Chord.State.DISPATCHING
        chord.told = False
        chord.save(update_fields=["state", "told", "updated_at"])
    fault("chord.decided")
    if dead:
        _fail_body(backend, chord, dead)
        return Chord.State.FAILED
    return _dispatch(backend, chord)


def sweep(backend: Any, older_than: timedelta = timedelta(seconds=30)) -> int:
    """Settle chords that a crash left behind: parts all in but nobody looked, a body claimed but perhaps not sent, or not told of a death.

    A body that has begun was sent. Of another nobody can say; it is sent again, and the worker runs one of the copies. Returns how
    many chords moved on.
    """
    moved, stale = 0, Chord.objects.filter(updated_at__lt=timezone.now() - older_than)
    for chord in stale.filter(state=Chord.State.FAILED, told=False).iterator():
        with _by_itself(chord):
            _fail_body(backend, chord, backend.standing(list(leaves(chord.header))).dead or chord.group_id)
            moved += 1
    unfinished = stale.filter(state__in=(Chord.State.WAITING, Chord.State.DISPATCHING))
    for chord in unfinished.only("group_id", "state", "body_id").iterator():
        with _by_itself(chord):
            moved += _settled(backend, chord)
    return moved


def _settled(backend: Any, chord: Chord) -> bool:
    mine = Chord.objects.filter(pk=chord.pk, state=Chord.State.DISPATCHING)
    if chord.state == Chord.State.DISPATCHING:
        if chord.body_id and backend.get_state(chord.body_id) in {states.STARTED, states.RETRY, states.SUCCESS}:
            return bool(mine.update(state=Chord.State.DONE))
        mine.update(state=Chord.State.WAITING)
    return advance(backend, chord.group_id) in {Chord.State.DONE, Chord.State.FAILED}


@contextmanager
def _by_itself(chord: Chord) -> Iterator[None]:
    """What is wrong with one chord keeps none of those behind it from being settled."""
    try:
        yield
    except (DatabaseError, InterfaceError, SoftTimeLimitExceeded):
        raise
    except Exception:
        logger.exception("chord.not_settled", extra={"group_id": chord.group_id})


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


def _values(results: Iterable[ResultTuple], returned: dict[str, Any]) -> list[Any]:
    """What the body is called with: the header's results in order, nested groups as lists."""
    return [
        _values(children, returned) if children else returned.get(task_id) for (task_id, _parent), children in results
    ]


def _fail_body(backend: Any, chord: Chord, culprit: str) -> None:
    body: Any = maybe_signature(loads(chord.body), app=backend.app)
    try:
        # Celery reads the exception from the stack: outside of an except block it would take the last *successful* part's.
        raise ChordError(f"Dependency {culprit} died; the chord's body waits for its replay")
    except ChordError as error:
        backend.chord_error_from_stack(body, error)
    if not Chord.objects.filter(pk=chord.pk, state=Chord.State.FAILED).update(told=True):
        # A part was replayed while the body was told: it waits again, and all behind it.
        after = behind(loads(chord.body))
        backend.reopen(after.task_ids, after.parts)
        return
    options = loads(chord.body).get("options") or {}
    if options.get("chord") and options.get("group_id"):
        advance(backend, options["group_id"])  # Celery does not tell the outer chord of a nested one


def _dispatch(backend: Any, chord: Chord) -> Chord.State:
    try:
        returned = backend.returned(list(leaves(chord.header)))
        body: Any = maybe_signature(as_copy(loads(chord.body), str(uuid4())), app=backend.app)
        backend.app.amqp._retry_publish(body.delay, _values(chord.header, returned))
    except (OperationalError, InterfaceError):
        raise
    except Exception:
        # Whatever the broker, a stored result or the body's signature raised: the sweeper tries again.
        logger.exception("chord.body_not_sent", extra={"group_id": chord.group_id, "task_id": chord.body_id})
        _left_dispatching(chord, Chord.State.WAITING)
        return Chord.State.WAITING
    fault("chord.body_sent")
    _left_dispatching(chord, Chord.State.DONE)
    return Chord.State.DONE


def _left_dispatching(chord: Chord, state: Chord.State) -> None:
    # Publishing may have taken so long that the sweeper took over: what it decided stays.
    Chord.objects.filter(pk=chord.pk, state=Chord.State.DISPATCHING).update(state=state, updated_at=timezone.now())
