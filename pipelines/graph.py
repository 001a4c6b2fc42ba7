"""A Celery canvas as a tree of steps: what will really run, in which order, under which task ids.

A canvas is series-parallel: a chain is a series, a group is parallel, a chord is a group and then its body. `plan()` writes a task
id on every leaf; Celery keeps an id that a signature already has, through its clones, its JSON and its rewriting of a group in a
chain into a chord. (Freezing a whole canvas does not do: `chunks` freeze to an id that never runs, and nested groups are cloned.)
"""

import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypedDict

from celery.canvas import Signature, _chain, chord, chunks, group, maybe_signature

# "chain": children; "group": task_id (the group's), children; "chord": header, body; "task": task_id, task, label.
Node = dict[str, Any]

# Told by name: a clone of these is a plain Signature (Celery 5.7).
CHUNKS = "celery.chunks"
MAPS = ("celery.map", "celery.starmap")


class Leaf(TypedDict):
    """One task of the tree."""

    kind: str
    task_id: str
    task: str  # the name that a worker knows
    label: str  # what people read: the same, or what a map maps


class NotACanvas(TypeError):
    """What should be a Celery canvas is something else, or has nothing in it to run."""


def plan(canvas: object) -> tuple[Signature[Any], Node]:
    """The canvas with an id on every task, and its tree. The caller's canvas is left as it is."""
    signature, node = _plan(canvas)
    if next(leaves(node), None) is None:
        raise NotACanvas("There is nothing to run: every chain and group in the canvas is empty.")
    return signature, node


def leaves(node: Node) -> Iterator[Leaf]:
    """The tasks of a tree, in order."""
    if node["kind"] == "task":
        yield node  # type: ignore[misc]  # a node read back from JSON has the leaf's keys
    for child in branches(node):
        yield from leaves(child)


def branches(node: Node) -> list[Node]:
    """The nodes right below one."""
    if node["kind"] == "chord":
        return [*node["header"], node["body"]]
    return list(node.get("children", ()))


def last_id(node: Node) -> str:
    """The id a caller waits on: the last task's, or the group's own."""
    if node["kind"] == "chain":
        return last_id(node["children"][-1])
    return last_id(node["body"]) if node["kind"] == "chord" else str(node["task_id"])


def values(node: Node, results: Mapping[str, object]) -> object:
    """What the tree returns, of what its tasks returned: one value, or for a group the list of its parts' values."""
    if node["kind"] == "chain":
        return values(node["children"][-1], results)
    if node["kind"] == "chord":
        return values(node["body"], results)
    if node["kind"] == "group":
        return [values(child, results) for child in node["children"]]
    return results.get(node["task_id"])


def ends(node: Node) -> Iterator[Leaf]:
    """The tasks whose values make up the tree's value."""
    if node["kind"] == "chain":
        yield from ends(node["children"][-1])
    elif node["kind"] == "chord":
        yield from ends(node["body"])
    elif node["kind"] == "group":
        for child in node["children"]:
            yield from ends(child)
    else:
        yield node  # type: ignore[misc]  # as in leaves()


def _plan(canvas: object) -> tuple[Signature[Any], Node]:
    if not isinstance(canvas, (Signature, Mapping)):
        raise NotACanvas(
            f"A pipeline must return a Celery canvas (a signature, chain, group or chord), not {type(canvas).__name__}."
        )
    signature: Any = maybe_signature(canvas).clone()  # type: ignore[union-attr]  # None only of None
    if signature.task == CHUNKS:
        signature = _as_group(signature)
    if isinstance(signature, _chain):
        return _plan_chain(signature)
    if isinstance(signature, group):
        return _plan_group(signature)
    if isinstance(signature, chord):
        return _plan_chord(signature)
    return _plan_task(signature)


def _as_group(signature: Any) -> Any:
    """`chunks` as the group of star maps that it becomes when it is sent, with its options on each part."""
    options = {key: value for key, value in signature.options.items() if key != "task_id"}
    as_chunks: Any = chunks.from_dict(signature)
    parts = as_chunks.group()
    parts.tasks = [part.set(**options) for part in parts.tasks]
    return parts


def _plan_chain(chain: Any) -> tuple[Any, Node]:
    steps = _absorbed(list(_flat(chain.tasks, _chain)))
    planned = [(sig, node) for sig, node in map(_plan, steps) if _has_work(node)]
    planned = [_unrolled(sig, node) for sig, node in planned]
    series: list[tuple[Any, Node]] = []
    for sig, node in reversed(planned):
        if node["kind"] == "group" and series:
            series[0] = _upgraded(sig, node, *series[0])
        else:
            series.insert(0, (sig, node))
    chain.tasks = [sig for sig, _ in series]
    chain.options.pop("task_id", None)
    nodes = [node for _, node in series]
    return chain, nodes[0] if len(nodes) == 1 else {"kind": "chain", "children": nodes}


def _upgraded(parts: Any, node: Node, body: Any, body_node: Node) -> tuple[Any, Node]:
    """A group and the step after it as a chord. Celery does the same, but then forgets what a chain that begins so was given."""
    barrier = chord(parts.tasks, body, **parts.options)
    return barrier, {"kind": "chord", "header": node["children"], "body": body_node}


def _absorbed(steps: list[Any]) -> list[Any]:
    """Steps where a chord that ends in a group takes what follows it into its body.

    Celery 5.7 gives each task of such a group a copy of the rest of the chain, which then runs once per task under one id.
    """
    for index, step in enumerate(steps[:-1]):
        if isinstance(step, chord) and _ends_wide(step.body):
            barrier: Any = step.clone()
            barrier.body = _chain(*[barrier.body, *steps[index + 1 :]])
            return [*steps[:index], barrier]
    return steps


def _ends_wide(signature: Any) -> bool:
    """Whether what runs last is a group."""
    if isinstance(signature, _chain):
        return bool(signature.tasks) and _ends_wide(signature.tasks[-1])
    if isinstance(signature, chord):
        return _ends_wide(signature.body)
    return isinstance(signature, group) or signature.task == CHUNKS


def _unrolled(signature: Any, node: Node) -> tuple[Any, Node]:
    """In a chain, Celery takes a group of one for its only task."""
    if node["kind"] == "group" and len(node["children"]) == 1:
        return signature.tasks[0], node["children"][0]
    return signature, node


def _plan_group(parts: Any) -> tuple[Any, Node]:
    planned = [(sig, node) for sig, node in map(_plan, _flat(parts.tasks, group)) if _has_work(node)]
    parts.tasks = [sig for sig, _ in planned]
    parts.options["task_id"] = str(uuid.uuid4())
    return parts, {"kind": "group", "task_id": parts.options["task_id"], "children": [node for _, node in planned]}


def _plan_chord(barrier: Any) -> tuple[Any, Node]:
    if barrier.body is None:
        raise NotACanvas("A chord in the canvas has no body. Give it one, or use a group.")
    header = barrier.tasks.tasks if isinstance(barrier.tasks, group) else barrier.tasks
    planned_header, node = _plan_group(group(list(header)))
    body, body_node = _plan(barrier.body)
    barrier.tasks, barrier.body = planned_header.tasks, body
    barrier.options["task_id"] = planned_header.options["task_id"]
    return barrier, {"kind": "chord", "header": node["children"], "body": body_node}


def _plan_task(signature: Any) -> tuple[Any, Node]:
    task_id = signature.options["task_id"] = str(uuid.uuid4())
    label = signature.task
    if signature.task in MAPS:
        signature.kwargs["it"] = list(signature.kwargs["it"])
        label = f"{signature.kwargs['task']['task']} × {len(signature.kwargs['it'])}"
    return signature, {"kind": "task", "task_id": task_id, "task": signature.task, "label": label}


def _flat(tasks: Iterable[object], kind: Any) -> Iterator[object]:
    """The tasks of a chain of chains, or of a group of groups, in order."""
    for task in tasks:
        signature: Any = maybe_signature(task) if isinstance(task, Mapping) else task
        if kind is group and signature.task == CHUNKS:
            signature = _as_group(signature)
        if isinstance(signature, kind):
            # unchain_tasks() hands the callbacks of an inner chain to its tasks.
            inner = signature.unchain_tasks() if kind is _chain and signature.tasks else signature.tasks
            yield from _flat(inner, kind)
        else:
            yield signature


def _has_work(node: Node) -> bool:
    return next(leaves(node), None) is not None
