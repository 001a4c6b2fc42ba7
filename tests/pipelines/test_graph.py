"""Canvas -> tree -> states -> picture, without a worker."""

import re
from collections import Counter

import pytest
from celery import Signature, chain, chord, group
from hypothesis import given
from hypothesis import strategies as st

from pipelines import graph
from pipelines.layout import HEIGHT, LONGEST, STACK_HEIGHT, WIDEST, WIDTH, outline, picture
from pipelines.states import Facts, Overall, State, overall, states_of

canvases = st.recursive(
    st.sampled_from("abc").map(Signature),
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=4).map(lambda parts: chain(*parts) if len(parts) > 1 else parts[0]),
        st.lists(inner, min_size=0, max_size=9).map(group),
        st.tuples(st.lists(inner, max_size=9), inner).map(lambda pair: chord(*pair)),
    ),
    max_leaves=40,
)
STATUSES = [None, "PENDING", "STARTED", "RETRY", "SUCCESS", "FAILURE", "REVOKED"]
LETTERS = [None, None, None, "open", "replaying", "discarded", "resolved"]


@st.composite
def trees(draw):
    canvas = draw(canvases)
    try:
        return graph.plan(canvas)[1]
    except graph.NotACanvas:
        return graph.plan(Signature("lonely"))[1]


@st.composite
def runs(draw):
    tree = draw(trees())
    ids = [leaf["task_id"] for leaf in graph.leaves(tree)]
    results = {i: status for i in ids if (status := draw(st.sampled_from(STATUSES)))}
    letters = {i: letter for i in ids if (letter := draw(st.sampled_from(LETTERS)))}
    return tree, Facts(
        results=results, letters=letters, stopped=draw(st.sampled_from([None, State.CANCELLED, State.UNSENT]))
    )


@given(trees())
def test_every_task_has_an_id_of_its_own(tree):
    ids = [leaf["task_id"] for leaf in graph.leaves(tree)]
    assert len(set(ids)) == len(ids) > 0
    assert {leaf["task_id"] for leaf in graph.ends(tree)} <= set(ids)
    assert graph.last_id(tree)


@given(canvases)
def test_planning_leaves_the_caller_s_canvas_as_it_was(canvas):
    before = spelled(canvas)
    try:
        graph.plan(canvas)
    except graph.NotACanvas:
        return
    assert spelled(canvas) == before


def spelled(canvas):
    """Celery spells an empty chain by the address of an object that it makes for the occasion."""
    return re.sub(r"@0x[0-9a-f]+", "", f"{canvas!r} {dict(canvas)}")


def test_what_is_no_canvas_is_refused_with_its_type():
    with pytest.raises(graph.NotACanvas, match="not int"):
        graph.plan(3)


def test_a_canvas_without_a_task_is_refused():
    with pytest.raises(graph.NotACanvas, match="nothing to run"):
        graph.plan(chain(group(), group()))


def test_a_chord_without_a_body_is_refused():
    with pytest.raises(graph.NotACanvas, match="no body"):
        graph.plan(chord([Signature("a")]))


@given(runs())
def test_every_task_has_one_state_and_the_run_has_one(run):
    tree, facts = run
    states = states_of(tree, facts)
    assert list(states) == [leaf["task_id"] for leaf in graph.leaves(tree)]
    whole = overall(Counter(states.values()), cancelled=facts.stopped)
    assert (whole is Overall.SUCCEEDED) == (set(states.values()) == {State.SUCCEEDED})
    if whole is Overall.FAILED:
        assert {State.DEAD, State.DISCARDED} & set(states.values())
    if whole not in (Overall.RUNNING, Overall.WAITING):
        assert not {State.RUNNING, State.RETRYING, State.REPLAYING, State.WAITING} & set(states.values())


def tree_of(canvas):
    tree = graph.plan(canvas)[1]
    return tree, [leaf["task_id"] for leaf in graph.leaves(tree)]


def test_what_celery_failed_downstream_of_a_death_is_blocked():
    a, b, c, d = map(Signature, "abcd")
    tree, (one, two, three, four) = tree_of(chain(a, group(b, c), d))
    facts = Facts(results={one: "SUCCESS", two: "FAILURE", three: "SUCCESS", four: "FAILURE"}, letters={two: "open"})
    assert list(states_of(tree, facts).values()) == [State.SUCCEEDED, State.DEAD, State.SUCCEEDED, State.BLOCKED]
    assert four


def test_what_never_got_a_row_behind_a_death_is_blocked_too():
    tree, (one, two, three) = tree_of(chain(*map(Signature, "abc")))
    states = states_of(tree, Facts(results={one: "FAILURE"}, letters={}))
    assert states == {one: State.DEAD, two: State.BLOCKED, three: State.BLOCKED}


def test_a_replay_makes_what_is_behind_it_wait_again():
    tree, (one, two) = tree_of(chain(*map(Signature, "ab")))
    states = states_of(tree, Facts(results={one: "PENDING", two: "PENDING"}, letters={one: "replaying"}))
    assert states == {one: State.REPLAYING, two: State.UNSENT}
    assert overall(Counter(states.values())) is Overall.RUNNING


def test_a_death_beside_running_work_is_not_the_end():
    tree, (one, two) = tree_of(group(Signature("a"), Signature("b")))
    states = states_of(tree, Facts(results={one: "FAILURE", two: "STARTED"}, letters={one: "open"}))
    assert overall(Counter(states.values())) is Overall.RUNNING


def test_a_cancelled_run_does_not_wait():
    tree, (one, two, three) = tree_of(chain(*map(Signature, "abc")))
    states = states_of(tree, Facts(results={one: "STARTED", two: "RETRY"}, letters={}, stopped=State.CANCELLED))
    assert states == {one: State.RUNNING, two: State.CANCELLED, three: State.CANCELLED}
    assert overall(Counter({State.CANCELLED: 2, State.SUCCEEDED: 1}), cancelled=True) is Overall.CANCELLED


@given(runs())
def test_boxes_keep_their_distance_and_count_every_task(run):
    tree, facts = run
    states = states_of(tree, facts)
    drawn = picture(tree, states)
    assert sum((box.counts for box in drawn.boxes), Counter()) == Counter(states.values())
    for index, box in enumerate(drawn.boxes):
        assert box.height == (STACK_HEIGHT if box.stacked else HEIGHT)
        assert box.x >= 0
        assert box.x + WIDTH <= drawn.width
        assert box.y >= 0
        assert box.y + box.height <= drawn.height
        for other in drawn.boxes[:index]:
            apart = abs(box.x - other.x) >= WIDTH
            apart |= box.y + box.height <= other.y or other.y + other.height <= box.y
            assert apart


@given(runs())
def test_the_outline_counts_every_task(run):
    tree, facts = run
    states = states_of(tree, facts)
    rows = outline(tree, states)
    assert sum((row.counts for row in rows if row.box), Counter()) == Counter(states.values())


def test_a_wide_group_of_equal_chains_folds_step_by_step():
    tree, _ids = tree_of(
        chord([chain(Signature("fetch"), Signature("resize")) for _ in range(12)], Signature("notify"))
    )
    drawn = picture(tree, states_of(tree, Facts(results={}, letters={})))
    assert [(box.title, box.total) for box in drawn.boxes] == [("fetch", 12), ("resize", 12), ("notify", 1)]
    assert len(drawn.lines) == 2


def test_a_group_as_wide_as_allowed_is_drawn_in_full():
    tree, _ids = tree_of(group(Signature("a") for _ in range(WIDEST)))
    assert len(picture(tree, states_of(tree, Facts(results={}, letters={}))).boxes) == WIDEST


def test_a_long_chain_folds_its_middle_and_keeps_both_ends():
    tree, ids = tree_of(chain(Signature(f"step{number}") for number in range(1000)))
    drawn = picture(tree, states_of(tree, Facts(results={}, letters={})))
    assert len(drawn.boxes) == LONGEST
    assert (drawn.boxes[0].key, drawn.boxes[-1].key) == (ids[0], ids[-1])
    assert sum(box.total for box in drawn.boxes) == 1000
