"""The tree says what really runs: nested canvases on a real worker, compared with what each task wrote down."""

import json
import random

import pytest
from celery import chain, chord, group
from django_celery_results.models import TaskResult

from pipelines import graph
from tests.processes import eventually
from tests.tasks import echo, note

pytestmark = [pytest.mark.worker, pytest.mark.django_db(transaction=True)]


class Canvases:
    """Makes canvases of numbered tasks that write into one log."""

    def __init__(self, log):
        self.log = log
        self.number = 0

    def t(self):
        self.number += 1
        return note.s(label=self.number, log=str(self.log))

    def random(self, dice, depth):
        kind = dice.choice(["task"] if depth == 0 else ["task", "chain", "group", "chord"])
        if kind == "task":
            return self.t()
        parts = [self.random(dice, depth - 1) for _ in range(dice.randint(1, 3))]
        if kind == "chain":
            return chain(*parts) if len(parts) > 1 else parts[0]
        return group(parts) if kind == "group" else chord(parts, self.random(dice, depth - 1))


def expected(node, received):
    """{task id: what it must be given}, and the value the node passes on."""
    if node["kind"] == "task":
        return {node["task_id"]: received}
    if node["kind"] == "group":
        return {k: v for child in node["children"] for k, v in expected(child, received).items()}
    series = (
        node["children"] if node["kind"] == "chain" else [{"kind": "group", "children": node["header"]}, node["body"]]
    )
    told = {}
    for part in series:
        told |= expected(part, received)
        received = "value", part
    return told


def resolve(received, returned):
    return [] if received is None else [graph.values(received[1], returned)]


def check(canvas, log):
    planned, tree = graph.plan(canvas)
    planned.apply_async()
    ids = [leaf["task_id"] for leaf in graph.leaves(tree)]
    done = TaskResult.objects.filter(task_id__in=ids, status="SUCCESS")
    eventually(lambda: done.count() == len(ids), what=f"{len(ids)} tasks of {canvas!r}: {done.count()} ran")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    notes = [leaf["task_id"] for leaf in graph.leaves(tree) if leaf["task"] == "tests.note"]
    assert sorted(task_id for task_id, _, _ in lines) == sorted(notes)
    returned = {task_id: json.loads(result) for task_id, result in done.values_list("task_id", "result")}
    given = {task_id: received for task_id, _, received in lines}
    told = expected(tree, None)
    assert given == {task_id: resolve(told[task_id], returned) for task_id in notes}
    return tree


SHAPES = {
    "task": lambda c: c.t(),
    "chain": lambda c: c.t() | c.t() | c.t(),
    "chain of one": lambda c: chain(c.t()),
    "group": lambda c: group(c.t(), c.t()),
    "group from a generator": lambda c: group(c.t() for _ in range(3)),
    "group of one in a chain": lambda c: chain(c.t(), group(c.t()), c.t()),
    "group of groups": lambda c: group(group(c.t(), c.t()), c.t(), group(c.t(), group(c.t(), c.t()))),
    "group of groups, then a task": lambda c: group(group(c.t(), c.t()), c.t()) | c.t(),
    "chain in group in chord": lambda c: chord([group(c.t() | c.t(), c.t()), c.t() | c.t()], c.t()),
    "chain with a group in the middle": lambda c: c.t() | group(c.t(), c.t() | c.t()) | c.t() | c.t(),
    "chain that ends with a group": lambda c: c.t() | c.t() | group(c.t(), c.t()),
    "two groups after one another": lambda c: chain(c.t(), group(c.t(), c.t()), group(c.t(), c.t()), c.t()),
    "three groups after one another": lambda c: chain(group(c.t(), c.t()), group(c.t(), c.t()), group(c.t(), c.t())),
    "chord in a chord's header": lambda c: chord([chord([c.t(), c.t()], c.t()), c.t()], c.t()),
    "chord as a chord's body": lambda c: chord([c.t(), c.t()], chord([c.t(), c.t()], c.t())),
    "chord with a chain as body": lambda c: chord([c.t(), c.t()], chain(c.t(), c.t(), c.t())),
    "chord with a group as body": lambda c: chord([c.t(), c.t()], group(c.t(), c.t())),
    "chord in the middle of a chain": lambda c: chain(c.t(), chord([c.t(), c.t()], c.t()), c.t(), c.t()),
    "chords in a row": lambda c: chain(chord([c.t(), c.t()], c.t()), chord([c.t(), c.t()], c.t()), c.t()),
    "chords in a group": lambda c: group(chord([c.t(), c.t()], c.t()), chord([c.t(), c.t()], c.t() | c.t())),
    "chain of chains": lambda c: chain(chain(c.t(), c.t()), chain(c.t(), group(c.t(), c.t())), c.t()),
    "chord of a group, then a chain": lambda c: chain(chord([c.t(), c.t()], group(c.t(), c.t())), c.t(), group(c.t(), c.t())),
    "chain that begins with a group, in a group": lambda c: group(chain(group(c.t(), c.t()), c.t(), c.t()), c.t()),
    "chain that ends with a group, in a chord": lambda c: chord([chain(c.t(), group(c.t(), c.t())), c.t()], c.t()),
    "maps": lambda c: chain(c.t(), echo.map(range(3)), c.t()),
    "chunks": lambda c: chain(c.t(), echo.chunks(zip(range(4), strict=True), 2), c.t(), c.t()),
    "empty parts": lambda c: chain(c.t(), group(), chain(), c.t()),
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_every_id_in_the_tree_runs_once_and_is_given_its_upstream(shape, worker, folder):
    canvases = Canvases(folder / "log")
    check(SHAPES[shape](canvases), canvases.log)


@pytest.mark.parametrize("seed", range(12))
def test_random_nestings_run_as_their_tree_says(seed, worker, folder):
    canvases = Canvases(folder / "log")
    check(canvases.random(random.Random(seed), depth=3), canvases.log)
