"""When each step waited and when it ran, as bars on one time axis; pure geometry.

A step waits from the moment everything before it was done until a worker begins it. That is the queue wait, and it needs no clock of
a sender. Of a step that died once nothing is said: the time until somebody replayed it is no queue wait.
"""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from pipelines.graph import Node, branches
from pipelines.layout import fold, stacks
from pipelines.states import State

# The axis, in units of the SVG's viewBox.
WIDTH = 1000
# A stack's bar shows how many ran at the same time, at so many points.
POINTS = 80
Times = Mapping[str, tuple[datetime | None, datetime]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """One step: waiting from `ready` to `started`, running until `ended`; None is what is not known or has not come."""

    ready: datetime | None = None
    started: datetime | None = None
    ended: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A part of a bar, in units of the axis."""

    x: float
    width: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """One row: a step, or a stack of many. Waits and runs are the longest of a stack; None where nothing is known."""

    key: str
    title: str
    counts: Counter[State]
    wait: Piece | None
    run: Piece | None
    # Points of a polygon of a stack: how many ran at the same time.
    shape: str
    waited: timedelta | None
    ran: timedelta | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """All lanes between `start` and `end`."""

    start: datetime
    end: datetime
    lanes: list[Lane]

    @property
    def ticks(self) -> list[timedelta]:
        """Five marks of the axis, from 0 to the end."""
        return [(self.end - self.start) * quarter / 4 for quarter in range(5)]


def spans(
    tree: Node,
    states: Mapping[str, State],
    times: Times,
    *,
    start: datetime,
    now: datetime,
    replayed: Collection[str] = (),
) -> dict[str, Span]:
    """{task id: span} of every task; `replayed` are those that have a dead letter."""
    found: dict[str, Span] = {}

    def walk(node: Node, ready: datetime | None) -> datetime | None:
        """When the node was done; None: it is not."""
        if node["kind"] == "task":
            return leaf(node["task_id"], ready)
        if node["kind"] == "chain":
            for child in branches(node):
                ready = walk(child, ready)
            return ready
        parallel = node["header"] if node["kind"] == "chord" else node["children"]
        ends = [walk(child, ready) for child in parallel]
        done = max((end for end in ends if end), default=ready) if all(ends) else None
        return walk(node["body"], done) if node["kind"] == "chord" else done

    def leaf(task_id: str, ready: datetime | None) -> datetime | None:
        state = states[task_id]
        started, written = times.get(task_id, (None, None))
        ready = None if task_id in replayed else ready
        if state in (State.BLOCKED, State.CANCELLED, State.UNSENT):
            found[task_id] = Span()  # what Celery wrote there is the culprit's
        elif state in (State.WAITING, State.REPLAYING):
            found[task_id] = Span(ready=ready)
        elif state is State.RUNNING:
            found[task_id] = Span(ready=ready, started=started, ended=now)
        else:
            found[task_id] = Span(ready=ready, started=started, ended=written)
        return written if state is State.SUCCEEDED else None

    walk(tree, start)
    return found


def timeline(
    tree: Node, states: Mapping[str, State], known: Mapping[str, Span], *, start: datetime, now: datetime
) -> Timeline:
    """The lanes of the same boxes that the graph draws, from the start to the last thing that happened."""
    moments = [moment for span in known.values() for moment in (span.started, span.ended) if moment]
    waiting = any(span.ready and not span.started for span in known.values())
    end = max([*moments, start + timedelta(milliseconds=100), *([now] if waiting else [])])
    axis = _Axis(start, end)
    lanes = []
    for tasks in stacks(fold(tree)):
        members = [known[task["task_id"]] for task in tasks]
        counts = Counter(states[task["task_id"]] for task in tasks)
        lanes.append(_lane(tasks[0]["task_id"], tasks[0]["label"], counts, members, axis))
    return Timeline(start=start, end=end, lanes=lanes)


@dataclass(frozen=True, slots=True)
class _Axis:
    start: datetime
    end: datetime

    def x(self, moment: datetime) -> float:
        return round(max(0.0, min(1.0, (moment - self.start) / (self.end - self.start))) * WIDTH, 1)

    def piece(self, begin: datetime | None, end: datetime | None) -> Piece | None:
        """From one moment to the other; at least as wide as the eye needs."""
        if begin is None or end is None or end < begin:
            return None
        return Piece(x=self.x(begin), width=max(round(self.x(end) - self.x(begin), 1), 2.0))


def _lane(key: str, title: str, counts: Counter[State], members: list[Span], axis: _Axis) -> Lane:
    readies = [span.ready for span in members if span.ready]
    starts = [span.started for span in members if span.started]
    ends = [span.ended for span in members if span.started and span.ended]
    waits = [
        (span.started or axis.end) - span.ready for span in members if span.ready and (span.started or not span.ended)
    ]
    runs = [span.ended - span.started for span in members if span.started and span.ended]
    first = min(starts, default=axis.end if len(readies) == len(members) else None)
    return Lane(
        key=key,
        title=title,
        counts=counts,
        wait=axis.piece(min(readies, default=None), first),
        run=axis.piece(min(starts, default=None), max(ends, default=None)),
        shape=_shape(members, axis) if len(members) > 1 else "",
        waited=max(waits, default=None),
        ran=max(runs, default=None),
    )


def _shape(members: list[Span], axis: _Axis) -> str:
    """The points of an area whose height (0 to 10, downwards) is how many ran at each of POINTS moments."""
    changes = [0] * (POINTS + 1)
    for span in members:
        if span.started and span.ended:
            changes[int(axis.x(span.started) / WIDTH * (POINTS - 1))] += 1
            changes[int(axis.x(span.ended) / WIDTH * (POINTS - 1)) + 1] -= 1
    running, heights = 0, []
    for change in changes[:POINTS]:
        running += change
        heights.append(running)
    highest, step = max(heights), WIDTH / POINTS
    if not highest:
        return ""
    steps = [f"{x:.1f},{10 - 10 * height / highest:.2f}" for number, height in enumerate(heights) for x in (number * step, (number + 1) * step)]  # fmt: skip
    return f"0,10 {' '.join(steps)} {WIDTH},10"
