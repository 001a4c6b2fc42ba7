"""Form fields: JSON of one type, and a local time without a zone."""

import json
from datetime import datetime
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _

# Further on, some zone's clocks or the search for a 29 February leave the years that Python has.
YEARS = (1970, 9000)


class JSONText(forms.CharField):
    """A text area of JSON; cleans to a list (`kind=list`) or a dict (`kind=dict`), empty when left empty."""

    def __init__(self, *, kind: type[list[Any]] | type[dict[str, Any]], **kwargs: Any) -> None:
        self.kind = kind
        attrs = {"data-json": "array" if kind is list else "object", "rows": 3, "spellcheck": "false"}
        super().__init__(required=False, widget=forms.Textarea(attrs=attrs), **kwargs)

    def clean(self, value: Any) -> Any:
        """The parsed value.

        Raises:
            ValidationError: no JSON (with its line), or JSON of another type.
        """
        text = super().clean(value)
        if not text:
            return self.kind()
        try:
            parsed = parse_json(text)
        except ValueError as problem:
            raise ValidationError(str(problem)) from None
        if not isinstance(parsed, self.kind):
            example = '["a", 1]' if self.kind is list else '{"key": "value"}'
            wanted = _("A JSON array") if self.kind is list else _("A JSON object")
            raise ValidationError(_("%(wanted)s is needed, like %(example)s.") % {"wanted": wanted, "example": example})
        return parsed


class LocalDateTime(forms.Field):
    """A wall-clock time as the browser's picker sends it (`2026-12-01T09:00`); cleans to a naive datetime, or None.

    One that says its offset (`2026-10-25T02:30+01:00`, which of the two) stays aware; no picker sends that, but a file may.
    """

    def __init__(self, **kwargs: Any) -> None:
        widget = forms.DateTimeInput(attrs={"type": "datetime-local", "step": "1"}, format="%Y-%m-%dT%H:%M:%S")
        super().__init__(required=False, widget=widget, **kwargs)

    def to_python(self, value: Any) -> datetime | None:
        """The time.

        Raises:
            ValidationError: no date and time.
        """
        if value in self.empty_values:
            return None
        try:
            parsed = parse_datetime(str(value))
        except ValueError:
            parsed = None
        if parsed is None:
            raise ValidationError(_("Write date and time like 2026-12-01 09:00."))
        if not YEARS[0] <= parsed.year <= YEARS[1]:
            raise ValidationError(_("The year must be %d to %d.") % YEARS)
        return parsed


def parse_json(text: str) -> Any:
    """The value, if it is one that reaches a task as it was written.

    Raises:
        ValueError: no JSON (with the place), or a value that cannot be stored or sent. The message is for people.
    """
    try:
        parsed = json.loads(text, parse_constant=_refuse_constant)
        json.dumps(parsed, ensure_ascii=False, allow_nan=False).encode()
    except json.JSONDecodeError as problem:
        where = {"reason": problem.msg, "line": problem.lineno, "column": problem.colno}
        raise ValueError(_("Not valid JSON: %(reason)s at line %(line)d, column %(column)d.") % where) from None
    except UnicodeEncodeError as problem:
        half = problem.object[problem.start].encode("unicode-escape").decode()
        raise ValueError(_("%s is half a character; the other half must follow.") % half) from None
    except RecursionError:
        raise ValueError(_("This JSON is nested too deeply.")) from None
    except _NotJSON:
        raise
    except ValueError:  # 1e999, or more digits than Python reads
        raise ValueError(_("This JSON has a number that is too large.")) from None
    return parsed


class _NotJSON(ValueError):
    """str() is for people."""


def _refuse_constant(name: str) -> None:
    raise _NotJSON(_("%s is JavaScript, but not JSON.") % name)
