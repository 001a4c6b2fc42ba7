"""Arguments as the JSON that people edit. What JSON lacks (dates, decimals) is marked with its type, and comes back as what it was."""

from typing import Any

from django.utils.translation import gettext as _
from kombu.utils.json import dumps, loads

from deadletters.envelope import clean


def as_json(value: Any, indent: int | None = 2) -> str:
    """With the letters of all languages; half of a surrogate pair, which no page can carry, stays an escape."""
    return clean(dumps(value, default_kwargs={"ensure_ascii": False, "indent": indent}))


def read(text: str) -> Any:
    """The inverse.

    Raises:
        ValueError: it is no JSON, or a value is not of the type that it is marked with.
        RecursionError: it is nested too deeply.
    """
    try:
        return loads(text)
    except (ArithmeticError, AttributeError, LookupError, TypeError) as problem:
        # Of a marked type's own constructor: no decimal, no date.
        raise ValueError(_("a marked value is not of its type (%s)") % problem) from None
