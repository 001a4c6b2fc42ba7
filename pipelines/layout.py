"""A tree of steps as a picture: boxes and lines for an SVG, or indented rows for a phone and a screen reader; pure geometry.

Canvases are series-parallel, so one recursive pass does it: a series is put side by side, parallel branches under one another.
More than six parallel branches fold: branches of one shape into one stack a step, others into one stack. The middle of a very long
series folds into one stack, too.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from pipelines.graph import Leaf, Node, leaves
from pipelines.states import State, loudest

# Pixels.
WIDTH, HEIGHT, STACK_HEIGHT, GAP_X, GAP_Y, MARGIN = 196, 54, 68, 44, 16, 10
# A group of more branches folds.
WIDEST = 6
# A series of more steps folds its middle.
LONGEST = 25
BAR_X, BAR_WIDTH = 14, 168


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """One step, or a stack of many; x and y are its upper left corner."""

    key: str
    title: str
    counts: Counter[State]
    x: float = 0
    y: float = 0

    @property
    def total(self) -> int:
        """How many steps it stands for."""
        return self.counts.total()

    @property
    def stacked(self) -> bool:
        """Whether it stands for several."""
        return self.total > 1

    @property
    def state(self) -> State:
        """Its colour."""
        return loudest(self.counts)

    @property
    def height(self) -> int:
        """In pixels."""
        return STACK_HEIGHT if self.stacked else HEIGHT

    @property
    def segments(self) -> list[tuple[State, int, float, float]]:
        """(state, steps, x, width) of a stack's bar."""
        return segments(self.counts, BAR_X, BAR_WIDTH)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """From one box to the next: an SVG path, drawn in the state of where it leads."""

    path: str
    state: State


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A graph of `width` × `height` pixels."""

    boxes: list[Box]
    lines: list[Line]
    width: int
    height: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the outline; without a box it heads parallel branches."""

    depth: int
    title: str
    counts: Counter[State]
    box: Box | None = None

    @property
    def state(self) -> State:
        """Its colour."""
        return loudest(self.counts)

    @property
    def total(self) -> int:
        """How many steps it stands for."""
        return self.counts.total()


@dataclass(slots=True, kw_only=True)
class _Part:
    """A laid-out piece: its boxes, lines between them by index, its size, and the boxes that lines enter and leave by."""

    boxes: list[Box] = field(default_factory=list)
    lines: list[tuple[int, int]] = field(default_factory=list)
    width: float = 0
    height: float = 0
    ins: list[int] = field(default_factory=list)
    outs: list[int] = field(default_factory=list)


def picture(tree: Node, states: Mapping[str, State]) -> Picture:
    """The graph, with wide groups folded."""
    part = _part(fold(tree), states)
    boxes = [replace(box, x=box.x + MARGIN, y=box.y + MARGIN) for box in part.boxes]
    return Picture(
        boxes=boxes,
        lines=[Line(path=_curve(boxes[a], boxes[b]), state=boxes[b].state) for a, b in part.lines],
        width=round(part.width) + 2 * MARGIN,
        height=round(part.height) + 2 * MARGIN,
    )


def outline(tree: Node, states: Mapping[str, State]) -> list[Row]:
    """The same as indented rows."""
    return list(_rows(fold(tree), states, 0))


def box_tasks(tree: Node, key: str) -> list[str]:
    """The task ids behind the box with this key; none for a key of no box."""
    return next(([leaf["task_id"] for leaf in tasks] for tasks in stacks(fold(tree)) if tasks[0]["task_id"] == key), [])


def segments(counts: Counter[State], start: float, width: float) -> list[tuple[State, int, float, float]]:
    """(state, steps, x, width) of the parts of a bar; what waits or is blocked is the empty rest."""
    found, x = [], start
    for state in (State.SUCCEEDED, State.DEAD, State.DISCARDED, State.REPLAYING, State.RETRYING, State.RUNNING):
        if counts[state]:
            part = counts[state] / counts.total() * width
            found.append((state, counts[state], round(x, 2), round(part, 2)))
            x += part
    return found


def fold(node: Node) -> Node:
    """The tree with each wide group as stacks ("stack": leaves) and each chord as what it is to the eye: a group, then its body."""
    if node["kind"] == "task":
        return {"kind": "stack", "leaves": [node]}
    if node["kind"] == "chain":
        return {"kind": "chain", "children": [fold(child) for child in _shortened(node["children"])]}
    if node["kind"] == "stack":
        return node
    if node["kind"] == "chord":
        header = {"kind": "group", "children": node["header"]}
        return {"kind": "chain", "children": [fold(part) for part in (header, node["body"]) if _any(part)]}
    if len(node["children"]) > WIDEST:
        return _bundle(node["children"])
    return {"kind": "group", "children": [fold(child) for child in node["children"]]}


def _shortened(children: list[Node]) -> list[Node]:
    """A series with the steps of its middle as one stack, where it has more than LONGEST."""
    if len(children) <= LONGEST:
        return children
    end = LONGEST // 2
    middle = [leaf for child in children[end : len(children) - end] for leaf in leaves(child)]
    return [*children[:end], {"kind": "stack", "leaves": middle}, *children[len(children) - end :]]


def stacks(node: Node) -> Iterator[list[Leaf]]:
    """The tasks of each box of a folded tree, in order."""
    if node["kind"] == "stack":
        yield node["leaves"]
    for child in node.get("children", ()):
        yield from stacks(child)


def _any(node: Node) -> bool:
    return next(leaves(node), None) is not None


def _bundle(nodes: list[Node]) -> Node:
    """Branches as one: step by step where all have the same shape, else all their steps in one stack."""
    first = nodes[0]
    if first["kind"] == "chain" and len({_shape(node) for node in nodes}) == 1:
        return {"kind": "chain", "children": [_bundle(list(step)) for step in zip(*(n["children"] for n in nodes), strict=True)]}  # fmt: skip
    return {"kind": "stack", "leaves": [leaf for node in nodes for leaf in leaves(node)]}


def _shape(node: Node) -> tuple[object, ...]:
    if node["kind"] == "task":
        return (node["task"],)
    return (node["kind"], *map(_shape, node.get("children", ())))


def _part(node: Node, states: Mapping[str, State]) -> _Part:
    if node["kind"] == "stack":
        box = _box(node, states)
        return _Part(boxes=[box], width=WIDTH, height=box.height, ins=[0], outs=[0])
    parts = [_part(child, states) for child in node["children"]]
    return _parallel(parts) if node["kind"] == "group" else _series(parts)


def _parallel(parts: list[_Part]) -> _Part:
    whole = _Part(width=max(part.width for part in parts))
    for part in parts:
        offset = _add(whole, part, 0, whole.height)
        whole.ins += [offset + index for index in part.ins]
        whole.outs += [offset + index for index in part.outs]
        whole.height += part.height + GAP_Y
    whole.height -= GAP_Y
    return whole


def _series(parts: list[_Part]) -> _Part:
    whole = _Part(height=max(part.height for part in parts))
    for part in parts:
        offset = _add(whole, part, whole.width, (whole.height - part.height) / 2)
        ins = [offset + index for index in part.ins]
        whole.lines += [(out, into) for out in whole.outs for into in ins]
        whole.ins = whole.ins or ins
        whole.outs = [offset + index for index in part.outs]
        whole.width += part.width + GAP_X
    whole.width -= GAP_X
    return whole


def _add(whole: _Part, part: _Part, x: float, y: float) -> int:
    """Move a part into a whole; returns by how much its indices moved."""
    offset = len(whole.boxes)
    whole.boxes += [replace(box, x=box.x + x, y=box.y + y) for box in part.boxes]
    whole.lines += [(a + offset, b + offset) for a, b in part.lines]
    return offset


def _box(node: Node, states: Mapping[str, State]) -> Box:
    counts = Counter(states[leaf["task_id"]] for leaf in node["leaves"])
    labels = list(dict.fromkeys(leaf["label"] for leaf in node["leaves"]))
    title = labels[0] if len(labels) == 1 else _("%(first)s and others") % {"first": labels[0]}
    return Box(key=node["leaves"][0]["task_id"], title=title, counts=counts)


def _curve(a: Box, b: Box) -> str:
    """Straight on in its own band, where nothing else is, and then a bend in the last gap."""
    x1, y1, x2, y2 = a.x + WIDTH, a.y + a.height / 2, b.x, b.y + b.height / 2
    bend, middle = x2 - GAP_X, x2 - GAP_X / 2
    return f"M{x1:.1f},{y1:.1f} H{bend:.1f} C{middle:.1f},{y1:.1f} {middle:.1f},{y2:.1f} {x2:.1f},{y2:.1f}"


def _rows(node: Node, states: Mapping[str, State], depth: int) -> Iterator[Row]:
    if node["kind"] == "stack":
        box = _box(node, states)
        yield Row(depth=depth, title=box.title, counts=box.counts, box=box)
        return
    if node["kind"] == "group":
        below = [row for child in node["children"] for row in _rows(child, states, depth + 1)]
        counts = sum((row.counts for row in below if row.box), Counter())
        number = len(node["children"])
        title = ngettext("one branch", "in parallel, %(number)d branches", number) % {"number": number}
        yield Row(depth=depth, title=title, counts=counts)
        yield from below
        return
    for child in node["children"]:
        yield from _rows(child, states, depth)
