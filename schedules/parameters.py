"""A task's parameters as fields of a form: one field each, there and back."""

import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from inspect import Parameter as Formal
from typing import Any

from celery import current_app
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from schedules.calls import BadCall, known_tasks
from schedules.fields import parse_json

# Annotation -> how its value is typed in; everything else is JSON. Modules with postponed annotations have them as text.
KINDS = {str: "text", int: "integer", float: "number", bool: "truth", "str": "text", "int": "integer", "float": "number", "bool": "truth"}  # fmt: skip
TYPES: dict[str, tuple[type, ...]] = {"text": (str,), "integer": (int,), "number": (int, float), "truth": (bool,)}


WANTED = {"text": gettext_lazy("a text"), "integer": gettext_lazy("a whole number"), "number": gettext_lazy("a number"), "truth": gettext_lazy("true or false")}  # fmt: skip


class Unfit(ValueError):
    """These arguments cannot be shown as one field a parameter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One parameter of a task. `kind`: text, integer, number, truth or json; `default` as JSON, None when it has none."""

    name: str
    kind: str
    required: bool
    default: str | None
    place: str  # position, name, rest (*args) or others (**kwargs)

    @property
    def hint(self) -> str:
        """What to type, for people."""
        words = {
            "text": _("Text."),
            "integer": _("A whole number."),
            "number": _("A number."),
            "truth": _("true or false."),
            "json": _('JSON: 5, true, [1, 2]; text in quotes: “"like this"”.'),
        }
        if self.place == "rest":
            return _("More positional arguments: a JSON array.")
        if self.place == "others":
            return _("More keyword arguments: a JSON object.")
        if self.required:
            return words[self.kind]
        return words[self.kind] + " " + _("Empty: %s.") % self.default

    def read(self, text: str) -> Any:
        """The value that was typed.

        Raises:
            ValueError: it is none of this kind; the message says what is wanted.
        """
        if self.kind == "text":
            return text
        try:
            value = parse_json(text)
        except ValueError:
            raise ValueError(_("“%(text)s” cannot be read. %(hint)s") % {"text": text, "hint": self.hint}) from None
        several = {"rest": list, "others": dict}.get(self.place)
        if not (isinstance(value, several) if several else self.takes(value)):
            raise ValueError(self.hint)
        return value

    def takes(self, value: Any) -> bool:
        """Whether a value is of the annotated type. A bool is an int for Python, and none for a person."""
        wanted = TYPES.get(self.kind, (object,))
        fits = isinstance(value, wanted) and not (isinstance(value, bool) and self.kind in {"integer", "number"})
        return fits or (value is None and self.default == "null")

    def show(self, value: Any) -> str:
        """What `read` would have been given.

        Raises:
            Unfit: a value of another type than annotated, or an empty text: its field would mean something else.
        """
        if self.kind == "text":
            if not isinstance(value, str) or not value or value != value.strip():
                raise Unfit(self.name)
            return value
        shown = json.dumps(value, ensure_ascii=False)
        try:
            self.read(shown)
        except ValueError:
            raise Unfit(self.name) from None
        return shown


def parameters_of(task: str) -> list[Parameter]:
    """The parameters of a registered task, in order; none for an unknown one."""
    if task not in known_tasks():
        return []
    return [_parameter(formal) for formal in inspect.signature(current_app.tasks[task].run).parameters.values()]


def check_types(task: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Whether each value is of the type that its parameter is annotated with; for a call that binds.

    Raises:
        BadCall: one is not.
    """
    bound = inspect.signature(current_app.tasks[task].run).bind(*args, **kwargs).arguments
    for one in parameters_of(task):
        if one.name in bound and one.place not in {"rest", "others"} and not one.takes(bound[one.name]):
            facts = {
                "name": one.name,
                "wanted": WANTED[one.kind],
                "value": json.dumps(bound[one.name], ensure_ascii=False),
            }
            raise BadCall(
                "kwargs" if one.name in kwargs else "args", _("%(name)s must be %(wanted)s, not %(value)s.") % facts
            )


def fold(task: str, values: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """(args, kwargs) of a call with these values by parameter name; what was left empty is absent."""
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    parameters = parameters_of(task)
    positional = bool(values.get(next((one.name for one in parameters if one.place == "rest"), "")))
    for one in parameters:
        if one.name not in values:
            # What follows cannot be given by position any more.
            positional = positional and one.place != "position"
        elif one.place == "rest":
            args += values[one.name]
        elif one.place == "others":
            kwargs |= values[one.name]
        elif one.place == "first" or (positional and one.place == "position"):
            args.append(values[one.name])
        else:
            kwargs[one.name] = values[one.name]
    return args, kwargs


def unfold(task: str, args: list[Any], kwargs: Mapping[str, Any]) -> dict[str, str]:
    """What each field shows for this call.

    Raises:
        Unfit: the call does not bind, or one of its values has no field that means the same.
    """
    if task not in known_tasks():
        raise Unfit(task)
    parameters = {one.name: one for one in parameters_of(task)}
    if not args and not kwargs:
        return {}  # what is still to be filled in
    try:
        bound = inspect.signature(current_app.tasks[task].run).bind(*args, **kwargs)
    except TypeError:
        raise Unfit(task) from None
    given = {name: list(value) if isinstance(value, tuple) else value for name, value in bound.arguments.items()}
    return {name: parameters[name].show(value) for name, value in given.items()}


def _parameter(formal: Formal) -> Parameter:
    places: dict[Any, str] = {
        Formal.POSITIONAL_ONLY: "first",
        Formal.VAR_POSITIONAL: "rest",
        Formal.VAR_KEYWORD: "others",
        Formal.KEYWORD_ONLY: "name",
    }
    place = places.get(formal.kind, "position")
    several = place in {"rest", "others"}
    bare = formal.default is Formal.empty
    return Parameter(
        name=formal.name,
        kind="json" if several else KINDS.get(formal.annotation, "json"),
        required=bare and not several,
        default=None if bare else _as_json(formal.default),
        place=place,
    )


def _as_json(value: object) -> str:
    try:
        return json.dumps(value, ensure_ascii=False)
    except TypeError:
        return repr(value)
