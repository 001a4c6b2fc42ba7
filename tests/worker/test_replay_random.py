"""Random canvases whose members die in random ways and are replayed in random order end as if none had died.

The long form: `bin/test tests/worker/test_replay_random.py --hypothesis-profile long --timeout 0`.
"""

import itertools
import tempfile
from pathlib import Path

import pytest
from celery import chain, chord, group
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from deadletters.models import DeadLetter, State
from tests.canvases import Canvas, finish
from tests.processes import eventually
from tests.results import BACKENDS, a_worker_with_results_in, succeeded, value
from tests.tasks import member

pytestmark = [pytest.mark.worker, pytest.mark.django_db(transaction=True)]

# A failure is told as it is found: to shrink it takes minutes of real deaths, which is the long form's business.
SHORT = settings(max_examples=4, derandomize=True, phases=[Phase.explicit, Phase.reuse, Phase.generate])

# A shape is a tuple: task, replaced; chain and group with their parts; chord with its header and its body.
LEAVES = st.sampled_from([("task",), ("task",), ("task",), ("replaced",)])


def _nested(inner):
    few = st.lists(inner, min_size=1, max_size=3)
    return st.one_of(
        st.tuples(st.just("chain"), st.lists(inner, min_size=2, max_size=3)),
        st.tuples(st.just("group"), st.lists(inner, min_size=2, max_size=3)),
        st.tuples(st.just("chord"), few, inner),
    )


SHAPES = st.recursive(LEAVES, _nested, max_leaves=7)
WAYS = st.lists(st.sampled_from(["raise", "reject", "overrun", "memory"]), min_size=1, max_size=2)


@pytest.fixture(scope="module", params=BACKENDS)
def backend(request, django_db_setup, tmp_path_factory):
    with a_worker_with_results_in(request.param, tmp_path_factory.mktemp("worker")):
        yield request.param


@settings(SHORT if settings.get_current_profile_name() == "usual" else settings.default)
@given(shape=SHAPES, data=st.data())
def test_a_random_canvas_ends_as_if_nothing_had_died(backend, shape, data):
    with tempfile.TemporaryDirectory() as folder:
        clean = Canvas(Path(folder) / "clean")
        result = _built(shape, clean).apply_async()
        eventually(lambda: succeeded(result), 90, f"{shape} without a death")
        fates = data.draw(st.dictionaries(st.sampled_from(clean.ran), WAYS, max_size=4), label="fates")
        # A killed process is noticed after seconds only: one a canvas.
        if data.draw(st.integers(0, 3), label="one of four") == 0:
            fates[data.draw(st.sampled_from(clean.ran), label="killed")] = ["kill"]
        # The last draw: a draw may end the example, and what was sent would die of its folder's end within the next one.
        at_once = data.draw(st.booleans(), label="at once")
        killed = Canvas(Path(folder) / "killed", fates)
        again = _built(shape, killed).apply_async()
        assert finish(again, at_once=at_once) == value(result)
        assert killed.ran == clean.ran
        letters = DeadLetter.objects.filter(task_name=member.name)
        left = letters.exclude(state=State.RESOLVED).values("task_id", "state", "cause", "deaths")
        eventually(lambda: not left.all().exists(), what=lambda: f"all letters resolved; left: {list(left.all())}")
        assert sum(letter.deaths for letter in letters.all()) == sum(map(len, fates.values()))
        DeadLetter.objects.all().delete()


def _built(shape, canvas):
    labels = (f"m{number}" for number in itertools.count())

    def build(part):
        match part:
            case ("task",):
                return canvas(next(labels))
            case ("replaced",):
                return canvas(f"replace-{next(labels)}")
            case ("chain", parts):
                return chain(*map(build, parts))
            case ("group", parts):
                return group(map(build, parts))
            case ("chord", header, body):
                return chord(list(map(build, header)), build(body))

    return build(shape)
