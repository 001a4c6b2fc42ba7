import pickle
import re
from typing import Annotated, Literal

import pytest
from celery import group, signature
from hypothesis import given
from hypothesis import strategies as st

from pipelines import registry
from pipelines.registry import BadParameter, UnknownPipeline


@pytest.fixture
def everything():
    @registry.pipeline(name="everything")
    def everything(  # noqa: PLR0917  (one of each type)
        urls: Annotated[list[str], "Addresses"],
        size: str = "800x600",
        count: int = 3,
        ratio: float = 0.5,
        loud: bool = False,
        shape: Literal["chain", "group"] = "chain",
    ):
        """Take one of everything.

        And more prose.
        """
        return group(signature("tests.echo", args=[[urls, size, count, ratio, loud, shape]]))

    yield registry.get("everything")
    del registry._pipelines["everything"]


def test_a_pipeline_tells_what_it_takes(everything):
    assert everything.summary == "Take one of everything."
    assert [parameter.name for parameter in everything.parameters] == [
        "urls",
        "size",
        "count",
        "ratio",
        "loud",
        "shape",
    ]
    assert everything.parameters[0].required
    assert everything.parameters[0].help == "Addresses"
    assert everything.parameters[5].choices == ("chain", "group")
    assert everything in registry.all_pipelines()


def test_text_becomes_typed_values_and_defaults_fill_the_rest(everything):
    assert everything.parse({"urls": "a, b\r\nc\n", "count": " 7 ", "loud": "yes", "ratio": "", "shape": "group"}) == {
        "urls": ["a", "b", "c"], "size": "800x600", "count": 7, "ratio": 0.5, "loud": True, "shape": "group",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        ({}, "urls: is required"),
        ({"urls": " "}, "urls: is required"),
        ({"urls": "a", "count": "many"}, "count: must be a whole number, not 'many'"),
        ({"urls": "a", "ratio": "nan"}, "ratio: must be a number, not 'nan'"),
        ({"urls": "a", "loud": "perhaps"}, "loud: must be true or false, not 'perhaps'"),
        ({"urls": "a", "shape": "ring"}, "shape: must be one of chain, group, not 'ring'"),
        ({"urls": "a\0"}, "urls: holds a character that cannot be stored: 'a\\x00'"),
        ({"urls": "a", "size": "\udcff"}, "size: holds a character"),
        ({"urls": "a", "colour": "red"}, "colour: is no parameter of everything; it has: urls, size"),
    ],
)
def test_wrong_text_is_refused_with_the_parameters_name(everything, raw, says):
    with pytest.raises(BadParameter, match="^" + re.escape(says)):
        everything.parse(raw)


@pytest.mark.parametrize(
    "values",
    [{"urls": "a"}, {"urls": ["a", 1]}, {"urls": ["a"], "count": "3"}, {"urls": ["a"], "count": True},
     {"urls": ["a"], "loud": 1}, {"urls": ["a"], "size": None}, {"urls": ["a"], "ratio": float("inf")}, {"urls": None}],
)  # fmt: skip
def test_values_of_another_type_are_refused(everything, values):
    with pytest.raises(BadParameter):
        everything.build(values)


def test_building_gives_the_canvas(everything):
    canvas = everything.build({"urls": ["a"], "ratio": 1})
    assert canvas.tasks[0].args == ([["a"], "800x600", 3, 1.0, False, "chain"],)


def test_an_unknown_name_lists_what_comes_close(everything):
    with pytest.raises(UnknownPipeline, match=r"“everthing”\. Did you mean: everything\?"):
        registry.get("everthing")


@pytest.mark.parametrize("error", [BadParameter("size", "is bad"), UnknownPipeline("x", ["y"])])
def test_refusals_survive_the_way_from_a_child_to_its_parent(error):
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_a_wrong_declaration_fails_at_import():
    with pytest.raises(TypeError, match="'when' must be a str, int"):
        registry.pipeline(name="bad")(_takes_bytes)
    with pytest.raises(BadParameter, match="count"):
        registry.pipeline(name="bad")(_wrong_default)
    with pytest.raises(TypeError, match="Two pipelines are named 'arithmetic'"):
        registry.pipeline(name="arithmetic")(_takes_bytes)


def _takes_bytes(when: bytes):
    return None


def _wrong_default(count: int = "x"):  # type: ignore[assignment]
    return None


TEXT = st.text()
VALUES = {str: TEXT, int: st.integers(), float: st.floats(allow_nan=False, allow_infinity=False), bool: st.booleans()}


@pytest.mark.parametrize("annotation", VALUES)
def test_any_text_is_a_value_or_a_refusal(annotation):
    @given(TEXT)
    def any_text(text):
        parameter = registry.Parameter(name="x", annotation=annotation)
        try:
            value = parameter.parse(text)
        except BadParameter:
            return
        assert parameter.check(value) == value

    any_text()


@pytest.mark.parametrize("annotation", [int, float, bool])
def test_a_value_written_as_text_comes_back(annotation):
    @given(VALUES[annotation])
    def round_trip(value):
        assert registry.Parameter(name="x", annotation=annotation).parse(str(value)) == value

    round_trip()


@given(st.lists(st.from_regex(r"[a-z:/.?=%]+", fullmatch=True), min_size=1))
def test_a_list_reads_the_same_with_commas_and_with_lines(items):
    parameter = registry.Parameter(name="x", annotation=list[str])
    assert parameter.parse(",".join(items)) == parameter.parse("\r\n".join(items)) == items
