"""When steps waited and ran, and how long it takes still, without a worker."""

from datetime import UTC, datetime, timedelta

import pytest
from celery import Signature, chain, chord, group
from hypothesis import given
from hypothesis import strategies as st

from pipelines import graph
from pipelines.estimate import estimate
from pipelines.states import Facts, State, states_of
from pipelines.timeline import WIDTH, spans, timeline
from tests.pipelines.test_graph import runs

START = datetime(2026, 11, 25, 12, tzinfo=UTC)


def at(seconds):
    return START + timedelta(seconds=seconds)


def drawn(canvas, results, times, *, now=60, letters=()):
    """The lanes of a canvas whose tasks, in order, have these results and (started, done)."""
    tree = graph.plan(canvas)[1]
    ids = [leaf["task_id"] for leaf in graph.leaves(tree)]
    facts = Facts(
        results={i: result for i, result in zip(ids, results, strict=False) if result},
        letters={ids[number]: "open" for number in letters},
    )
    states = states_of(tree, facts)
    moments = {i: (at(pair[0]), at(pair[1])) for i, pair in zip(ids, times, strict=False) if pair}
    died = {ids[number] for number in letters}
    known = spans(tree, states, moments, start=START, now=at(now), replayed=died)
    return timeline(tree, states, known, start=START, now=at(now)).lanes


def test_a_step_waits_from_the_end_of_all_before_it_until_a_worker_begins_it():
    canvas = chord([Signature("a"), Signature("b")], Signature("c"))
    a, b, c = drawn(canvas, ["SUCCESS"] * 3, [(1, 4), (2, 10), (15, 20)])
    assert [lane.waited for lane in (a, b, c)] == [timedelta(seconds=n) for n in (1, 2, 5)]
    assert [lane.ran for lane in (a, b, c)] == [timedelta(seconds=n) for n in (3, 8, 5)]
    assert (c.wait.x, c.wait.width) == (500, 250)
    assert (c.run.x, c.run.width) == (750, 250)


def test_what_waits_and_what_runs_reaches_to_now():
    running, queued, later = drawn(
        group(Signature("a"), chain(Signature("b"), Signature("c"))), ["STARTED"], [(20, 20)], now=60
    )
    assert (running.ran, running.waited) == (timedelta(seconds=40), timedelta(seconds=20))
    assert (queued.waited, queued.run) == (timedelta(seconds=60), None)
    assert (later.wait, later.run) == (None, None)


def test_of_a_step_that_died_no_wait_is_told():
    dead, blocked = drawn(chain(Signature("a"), Signature("b")), ["FAILURE", "FAILURE"], [(5, 6), (6, 6)], letters=[0])
    assert (dead.waited, dead.ran) == (None, timedelta(seconds=1))
    assert (blocked.wait, blocked.run, blocked.ran) == (None, None, None)


def test_a_stack_shows_how_many_ran_at_the_same_time():
    (stack,) = drawn(group(Signature("a") for _ in range(8)), ["SUCCESS"] * 8, [(n, n + 10) for n in range(8)])
    assert (stack.waited, stack.ran) == (timedelta(seconds=7), timedelta(seconds=10))
    heights = [float(point.split(",")[1]) for point in stack.shape.split()]
    assert min(heights) == 0
    assert max(heights) == 10


@given(runs(), st.randoms())
def test_no_bar_leaves_the_axis(run, chance):
    tree, facts = run
    states = states_of(tree, facts)
    times = {i: (chance.choice([None, at(chance.random() * 90)]), at(chance.random() * 90)) for i in facts.results}
    known = spans(tree, states, times, start=START, now=at(60))
    for lane in timeline(tree, states, known, start=START, now=at(60)).lanes:
        for piece in filter(None, (lane.wait, lane.run)):
            assert 0 <= piece.x <= WIDTH
            assert 0 < piece.width <= WIDTH


COUNTS = {State.SUCCEEDED: 50, State.WAITING: 50}
SOME = timedelta(seconds=30)


@pytest.mark.parametrize(
    ("counts", "earlier", "says"),
    [
        (COUNTS, [(100, 60), (95, 80), (110, 70)], "about 40 s left (the median of 3 earlier runs is 1 min 10 s)"),
        (COUNTS, [(100, 20)], "longer than the run before, which took 20 s"),
        (COUNTS, [(1000, 600)], "about 30 s left (at the pace of its first 50 steps)"),
        ({State.SUCCEEDED: 3, State.WAITING: 7}, [], None),
        ({State.SUCCEEDED: 9}, [(9, 60)], None),
    ],
)
def test_what_is_left_is_told_with_its_basis_or_not_at_all(counts, earlier, says):
    told = estimate(counts, SOME, [(n, timedelta(seconds=s)) for n, s in earlier], disturbed=False)
    assert (told and str(told)) == says


def test_once_something_died_nothing_is_estimated():
    assert estimate(COUNTS, SOME, [(100, timedelta(minutes=1))], disturbed=True) is None
