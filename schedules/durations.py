"""Lengths of time as people read them."""

from datetime import timedelta

from django.utils.formats import number_format
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

UNITS = (
    (86_400, gettext_noop("%d d")),
    (3600, gettext_noop("%d h")),
    (60, gettext_noop("%d m")),
    (1, gettext_noop("%d s")),
)


def brief(span: timedelta) -> str:
    """`0.3 s`, `42 s`, `4 m 10 s`, `2 h 5 m`, `3 d 4 h`: at most two units, in the language of whoever reads."""
    seconds = span.total_seconds()
    if seconds < 10:
        return _("%s s") % number_format(round(seconds, 1), 1)
    parts: list[str] = []
    rest = round(seconds)
    for size, unit in UNITS:
        number, rest = divmod(rest, size)
        if number or parts:
            parts.append(_(unit) % number if number else "")
    return " ".join(filter(None, parts[:2]))
