"""`@pipeline`: a typed function that returns a Celery canvas, with a name people can start it by.

    @pipeline(name="thumbnails")
    def thumbnails(urls: Annotated[list[str], "Addresses of the images"], size: str = "200x200") -> Signature:
        '''Make small pictures.'''
        return group(...)

A parameter is a str, int, float, bool, Literal or list[str]. Put such functions in an app's `pipelines.py` (found by itself) or
in a module that `settings.PIPELINES` names.
"""

import difflib
import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from celery.canvas import Signature
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from pydantic import ConfigDict, TypeAdapter, ValidationError

REQUIRED = inspect.Parameter.empty
# What a wrong value is told, by type.
EXPECTED: dict[object, str | Promise] = {
    str: gettext_lazy("must be text"),
    int: gettext_lazy("must be a whole number"),
    float: gettext_lazy("must be a number"),
    bool: gettext_lazy("must be true or false"),
    list[str]: gettext_lazy("must be a list of texts"),
}

Canvas = Callable[..., Signature]


class BadParameter(ValueError):
    """A parameter that a pipeline does not take. `name` is the parameter, `reason` what is wrong with it."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(name, reason)
        self.name, self.reason = name, reason

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


class UnknownPipeline(LookupError):
    """No pipeline has that name; `known` are the names there are."""

    def __init__(self, name: str, known: list[str]) -> None:
        super().__init__(name, known)
        self.name, self.known = name, known

    def __str__(self) -> str:
        close = difflib.get_close_matches(self.name, self.known) or self.known
        return _("There is no pipeline “%(name)s”. Did you mean: %(close)s?") % {
            "name": self.name,
            "close": ", ".join(close) or "–",
        }


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One parameter of a pipeline. `default` is REQUIRED when it has none."""

    name: str
    annotation: Any
    default: object = REQUIRED
    help: str = ""

    @property
    def required(self) -> bool:
        """Whether a run must say it."""
        return self.default is REQUIRED

    @property
    def choices(self) -> tuple[Any, ...]:
        """The values of a Literal; () for any other type."""
        return get_args(self.annotation) if get_origin(self.annotation) is Literal else ()

    def parse(self, text: str) -> object:
        """The value that `text` spells; a list is one item a line, or separated by commas; blank is the default.

        Raises:
            BadParameter: it spells none.
        """
        if not text.strip() and (self.required or self.annotation is not str):
            return self._default()
        if self.annotation is str:
            return self.check(text)
        if self.annotation == list[str]:
            return self.check([item.strip() for item in re.split(r"[,\r\n]", text) if item.strip()])
        if self.choices:
            return self.check({str(choice): choice for choice in self.choices}.get(text.strip(), text))
        try:
            return self._type.validate_strings(text.strip())
        except ValidationError:
            raise BadParameter(self.name, self._complaint(text)) from None

    def check(self, value: object) -> object:
        """`value`, when it is of the type (a whole number also is a number).

        Raises:
            BadParameter: it is not, or it holds a character that no database keeps.
        """
        try:
            checked = self._type.validate_python(value, strict=True)
        except ValidationError:
            raise BadParameter(self.name, self._complaint(value)) from None
        for text in checked if isinstance(checked, list) else [checked]:
            if isinstance(text, str) and not _storable(text):
                raise BadParameter(
                    self.name, _("holds a character that cannot be stored: %(text).80r") % {"text": text}
                )
        return checked

    def _default(self) -> object:
        if self.required:
            raise BadParameter(self.name, _("is required"))
        return self.default

    def _complaint(self, value: object) -> str:
        expected = (
            _("must be one of %(choices)s") % {"choices": ", ".join(map(str, self.choices))}
            if self.choices
            else EXPECTED[self.annotation]
        )
        return _("%(expected)s, not %(value).80r") % {"expected": expected, "value": value}

    @cached_property
    def _type(self) -> TypeAdapter[Any]:
        # JSON has neither infinity nor NaN.
        return TypeAdapter(self.annotation, config=ConfigDict(allow_inf_nan=False))


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """A pipeline people can start."""

    name: str
    function: Canvas
    parameters: tuple[Parameter, ...]
    suggest: Callable[[], Mapping[str, object]] = dict

    @property
    def summary(self) -> str:
        """The first line of the function's docstring, in the reader's language where there is a translation."""
        line = (inspect.getdoc(self.function) or "").partition("\n")[0]
        return _(line) if line else ""

    def example(self) -> dict[str, object]:
        """Parameters that a form may begin with: the defaults, and what the pipeline suggests for this place."""
        defaults = {parameter.name: parameter.default for parameter in self.parameters if not parameter.required}
        return {**defaults, **self.suggest()}

    def parse(self, raw: Mapping[str, str]) -> dict[str, object]:
        """All parameters, typed, from text; what is not there has its default.

        Raises:
            BadParameter: a name that is none, a value that spells none, or one that is required and missing.
        """
        self._refuse_strangers(raw)
        return {parameter.name: parameter.parse(raw.get(parameter.name, "")) if parameter.name in raw
                else parameter._default() for parameter in self.parameters}  # fmt: skip

    def validate(self, parameters: Mapping[str, object]) -> dict[str, object]:
        """All parameters, from values (of Python, or of JSON); what is not there has its default.

        Raises:
            BadParameter: a name that is none, a value of another type, or one that is required and missing.
        """
        self._refuse_strangers(parameters)
        return {parameter.name: parameter.check(parameters[parameter.name]) if parameter.name in parameters
                else parameter._default() for parameter in self.parameters}  # fmt: skip

    def build(self, parameters: Mapping[str, object]) -> Signature:
        """The canvas for these values; nothing is sent.

        Raises:
            BadParameter: see `validate`; the pipeline itself may refuse more.
        """
        return self.function(**self.validate(parameters))

    def _refuse_strangers(self, given: Mapping[str, object]) -> None:
        names = [parameter.name for parameter in self.parameters]
        for name in given:
            if name not in names:
                known = ", ".join(names) or "–"
                raise BadParameter(
                    str(name),
                    _("is no parameter of %(pipeline)s; it has: %(known)s") % {"pipeline": self.name, "known": known},
                )


_pipelines: dict[str, Pipeline] = {}


def pipeline(*, name: str, suggest: Callable[[], Mapping[str, object]] = dict) -> Callable[[Canvas], Canvas]:
    """Register a function under `name`; it stays callable as it is. `suggest()` fills a start form (see `Pipeline.example`).

    Raises:
        TypeError: at import, for a name that is taken, a parameter without a supported type or with a wrong default.
    """

    def register(function: Canvas) -> Canvas:
        known = _pipelines.get(name)
        if known and known.function.__qualname__ != function.__qualname__:
            raise TypeError(f"Two pipelines are named {name!r}: {known.function!r} and {function!r}.")
        _pipelines[name] = Pipeline(
            name=name,
            function=function,
            parameters=_parameters(function),
            suggest=suggest,
        )
        return function

    return register


def get(name: str) -> Pipeline:
    """The pipeline of that name.

    Raises:
        UnknownPipeline: there is none; its text lists those that come close.
    """
    try:
        return _pipelines[name]
    except KeyError:
        raise UnknownPipeline(name, sorted(_pipelines)) from None


def all_pipelines() -> list[Pipeline]:
    """Every pipeline, by name."""
    return [_pipelines[name] for name in sorted(_pipelines)]


def _parameters(function: Canvas) -> tuple[Parameter, ...]:
    hints = get_type_hints(function, include_extras=True)
    return tuple(
        _parameter(name, hints.get(name), parameter.default)
        for name, parameter in inspect.signature(function).parameters.items()
    )


def _parameter(name: str, hint: Any, default: object) -> Parameter:
    annotation, notes = (hint.__origin__, hint.__metadata__) if get_origin(hint) is Annotated else (hint, ())
    explained = next((note for note in notes if isinstance(note, str | Promise)), "")
    parameter = Parameter(name=name, annotation=annotation, default=default, help=explained)  # type: ignore[arg-type]  # lazy text
    if annotation not in EXPECTED and not parameter.choices:
        raise TypeError(
            f"Parameter {name!r} must be a str, int, float, bool, Literal or list[str], not {annotation!r}."
        )
    if not parameter.required:
        parameter.check(default)
    return parameter


def _storable(text: str) -> bool:
    # PostgreSQL's JSON takes no NUL, UTF-8 no lone surrogates (an argument of a command may hold some).
    return "\0" not in text and not re.search("[\ud800-\udfff]", text)
