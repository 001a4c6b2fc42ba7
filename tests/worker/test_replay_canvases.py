"""Each shape of canvas, on both result backends: members die in different ways, are replayed, and the result is as if none had died."""

import pytest
from celery import chain, chord, group

from config.celery import app
from deadletters.models import DeadLetter, Event, State
from deadletters.replay.replay import replay
from pipelines import graph, runs
from pipelines.models import Run, Step
from pipelines.states import Overall
from tests.canvases import Canvas, finish
from tests.processes import eventually
from tests.results import BACKENDS, a_worker_with_results_in, succeeded, value
from tests.tasks import boom_callback, die_unless

pytestmark = [pytest.mark.worker, pytest.mark.django_db(transaction=True)]


@pytest.fixture(scope="module", params=BACKENDS)
def backend(request, django_db_setup, tmp_path_factory):
    """A worker with its results there, and this process with it."""
    with a_worker_with_results_in(request.param, tmp_path_factory.mktemp("worker")):
        yield request.param


SHAPES = {
    "a chain": lambda m: chain(m("a"), m("b"), m("c")),
    "a group": lambda m: group(m("a"), m("b"), m("c")),
    "a chord": lambda m: chord([m("a"), m("b"), m("c")], m("body")),
    "a chord of chains": lambda m: chord([chain(m(f"a{n}"), m(f"b{n}"), m(f"c{n}")) for n in range(3)], m("body")),
    "a chain with a group inside": lambda m: chain(m("a"), group(m("b"), m("c")), m("d"), m("e")),
    "a chord in a chord": lambda m: chord([chord([m("a"), m("b")], m("inner")), m("c")], m("body")),
    "a chord in a chord in a chord": lambda m: chord(
        [chord([chord([m("a"), m("b")], m("i1")), m("c")], m("i2")), m("d")], m("body")
    ),
    "a body that is a group": lambda m: chord([m("a"), m("b")], group(m("x"), m("y"))),
    "a body that is a chain": lambda m: chord([m("a"), m("b")], chain(m("x"), m("y"))),
    "a body that is a chord": lambda m: chord([m("a"), m("b")], chord([m("x"), m("y")], m("z"))),
    "a chain behind a chord": lambda m: chain(chord([m("a"), m("b")], m("body")), m("c"), group(m("d"), m("e"))),
    "a replaced task": lambda m: chain(m("a"), m("replace1"), m("b")),
    "a replaced member": lambda m: chord([m("a"), m("replace1"), m("b")], m("body")),
    "a group of groups": lambda m: chord([group(m("a"), m("b")), group(m("c"), m("d"))], m("body")),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_canvas_whose_members_died_ends_as_one_in_which_none_did(backend, tmp_path, shape):
    clean = Canvas(tmp_path / "clean")
    result = SHAPES[shape](clean).apply_async()
    eventually(lambda: succeeded(result), 30, f"{shape} without a death")
    # Every member dies, the first of each kind twice: upstream, in the header, in the body, in what replaces it.
    fates = {label: ["raise"] for label in clean.ran}
    fates.update(zip(sorted(fates), (["raise", "reject"], ["memory"], ["overrun"]), strict=False))
    killed = Canvas(tmp_path / "killed", fates)
    again = SHAPES[shape](killed).apply_async()
    assert finish(again) == value(result)
    assert killed.ran == clean.ran
    letters = eventually(
        lambda: (all_ := list(DeadLetter.objects.all())) and all(x.state == State.RESOLVED for x in all_) and all_
    )
    assert sum(letter.deaths for letter in letters) == sum(map(len, fates.values()))


def test_members_replayed_at_the_same_instant_run_the_body_once(backend, tmp_path):
    fates = {f"m{n}": ["raise"] for n in range(6)}
    canvas = Canvas(tmp_path / "canvas", fates)
    result = chord([canvas(f"m{n}") for n in range(8)], canvas("body")).apply_async()
    eventually(lambda: DeadLetter.objects.open().count() == 6)
    assert finish(result, at_once=True) == ["body", [[f"m{n}"] for n in range(8)]]
    assert canvas.ran.count("body") == 1


def test_a_member_whose_process_is_killed_comes_back(backend, tmp_path):
    canvas = Canvas(tmp_path / "canvas", {"b": ["kill"], "body": ["kill"]})
    result = chord([canvas("a"), canvas("b")], canvas("body")).apply_async()
    assert finish(result) == ["body", [["a"], ["b"]]]
    assert canvas.ran == ["a", "b", "body"]


def test_a_client_sees_the_failure_turn_into_a_success(backend, tmp_path):
    canvas = Canvas(tmp_path / "canvas", {"b": ["raise"]})
    result = chain(canvas("a"), canvas("b"), canvas("c")).apply_async()
    with pytest.raises(ValueError, match="as told"):
        app.AsyncResult(result.id).get(timeout=60)
    (letter,) = eventually(lambda: list(DeadLetter.objects.open()))
    replay(letter, by=None)
    assert app.AsyncResult(result.id).get(timeout=60) == ["c", ["b", ["a"]]]


def test_chunks_go_on_behind_the_chunk_that_died(backend, tmp_path):
    missing = tmp_path / "missing"
    there = tmp_path / "there"
    there.touch()
    canvas = Canvas(tmp_path / "canvas")
    chunks = die_unless.chunks([(str(there), 1), (str(there), 2), (str(missing), 3), (str(there), 4)], 2)
    result = chord(chunks.group(), canvas("body")).apply_async()
    (letter,) = eventually(lambda: list(DeadLetter.objects.open()))
    missing.touch()
    assert finish(result) == ["body", [[1, 2], [3, 4]]]
    assert letter.task_name == "celery.starmap"


def test_callbacks_run_once_and_errbacks_at_each_death(backend, tmp_path):
    canvas, errors = Canvas(tmp_path / "canvas", {"a": ["raise", "raise"]}), tmp_path / "errors"
    one = canvas("a")
    one.link(canvas("linked"))
    one.link_error(boom_callback.si(str(errors)))
    result = one.apply_async()
    assert finish(result) == ["a"]
    eventually(lambda: canvas.ran == ["a", "linked"])
    eventually(lambda: errors.read_text() == "errback\n" * 2)


def test_what_waits_is_failed_after_the_death_and_pending_after_the_replay(backend, tmp_path):
    canvas = Canvas(tmp_path / "canvas", {"b": ["raise", "raise"]})
    result = chord([canvas("a"), chain(canvas("b"), canvas("c"))], chain(canvas("body"), canvas("last"))).apply_async()
    for deaths in (1, 2):
        (letter,) = eventually(lambda n=deaths: list(DeadLetter.objects.open().filter(deaths=n)))
        eventually(lambda: app.backend.get_state(result.id) == "FAILURE")
        replay(letter, by=None)
    assert finish(result) == ["last", ["body", [["a"], ["c", ["b"]]]]]
    assert letter.events.filter(kind=Event.Kind.DIED).count() == 2


def test_what_waits_behind_a_death_is_shown_as_blocked_then_runs(backend, tmp_path):
    canvas = Canvas(tmp_path / "canvas", {"b": ["raise"]})
    chorded = chord([canvas("a"), chain(canvas("b"), canvas("c"))], canvas("body"))
    planned, tree = graph.plan(chain(chorded, canvas("last")))
    run = Run.objects.create(pipeline="arithmetic", tree=tree, result_id=graph.last_id(tree))
    Step.objects.bulk_create(
        Step(run=run, position=position, task_id=leaf["task_id"], task_name=leaf["task"])
        for position, leaf in enumerate(graph.leaves(tree))
    )
    result = planned.apply_async()

    def states():
        return [str(state) for state in runs.progress(run).states.values()]

    eventually(
        lambda: states() == ["succeeded", "dead", "blocked", "blocked", "blocked"], what=lambda: f"blocked: {states()}"
    )
    assert runs.progress(run).overall == Overall.FAILED
    (letter,) = eventually(lambda: list(DeadLetter.objects.open()))
    replay(letter, by=None)
    eventually(lambda: states() == ["succeeded"] * 5, what=lambda: f"all have run: {states()}")
    assert runs.progress(run).overall == Overall.SUCCEEDED
    assert value(result) == ["last", ["body", [["a"], ["c", ["b"]]]]]
    assert canvas.ran == ["a", "b", "body", "c", "last"]


def test_a_run_is_followed_to_its_result(backend):
    run = runs.start("arithmetic", {"shape": "chord"})
    *_, last = runs.follow(run, every=0.1, timeout=60)
    assert last.overall == Overall.SUCCEEDED
    assert runs.overview([run])[run.pk].succeeded == last.total
    assert runs.result(run) == value(app.AsyncResult(run.result_id))
