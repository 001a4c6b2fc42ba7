"""Reads a cron line part by part, and says what is wrong with it. Pure."""

import re

from celery.utils.time import weekday, yearmonth  # type: ignore[attr-defined]  # celery-types is behind
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy


class BadTiming(ValueError):
    """This can never run, or cannot be read. str() is for people; `field` is what to mend: cron, timezone, every or at."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(reason)
        self.field = field


# name, lowest, highest, what a word in it means (`mon`, `jan`)
FIELDS = (
    (gettext_lazy("minute"), 0, 59, None),
    (gettext_lazy("hour"), 0, 23, None),
    (gettext_lazy("day of month"), 1, 31, None),
    (gettext_lazy("month"), 1, 12, yearmonth),
    (gettext_lazy("weekday"), 0, 6, weekday),
)
# Celery's parser matches the beginning of a part and ignores the rest ("1-5/2/3"), so a part is read whole here first.
PART = re.compile(
    r"(?:\*|(?P<first>[0-9a-z]+)(?:-(?P<last>[0-9a-z]+))?)(?:/(?P<step>[0-9]+))?", re.IGNORECASE | re.ASCII
)


def split(line: str) -> tuple[str, str, str, str, str]:
    """The five fields of a line, each of whose parts makes sense.

    Raises:
        BadTiming: not five fields, or one that cannot be read.
    """
    parts = line.split()
    if len(parts) != len(FIELDS):
        raise BadTiming(
            "cron",
            _("A cron line has five fields (minute, hour, day of month, month, weekday); this one has %d.")
            % len(parts),
        )
    for (label, lowest, highest, words), text in zip(FIELDS, parts, strict=True):
        for part in text.split(","):
            _check_part(str(label), part, lowest, highest, words)
    minute, hour, day, month, day_of_week = parts
    return minute, hour, day, month, day_of_week


def _check_part(label: str, part: str, lowest: int, highest: int, words: object) -> None:
    found = PART.fullmatch(part)
    if not found or (found["step"] and found["first"] and not found["last"]):
        raise BadTiming(
            "cron",
            _("%(field)s: “%(part)s” cannot be read. Write *, 5, 1-5, */15 or 1,15.")
            % {"field": capfirst(label), "part": part},
        )
    for text in filter(None, (found["first"], found["last"])):
        _check_value(label, text, lowest, highest, words)
    if found["step"] and not 1 <= int(found["step"]) <= highest:
        raise BadTiming(
            "cron",
            _("%(field)s: a step is 1 to %(highest)d, not %(step)s.")
            % {"field": capfirst(label), "highest": highest, "step": found["step"]},
        )


def _check_value(label: str, text: str, lowest: int, highest: int, words: object) -> None:
    if text.isdecimal():
        if lowest <= int(text) <= highest:
            return
        reason = _("%(field)s is %(lowest)d to %(highest)d, not %(value)s.")
        if words is weekday and int(text) == 7:
            reason = _("%(field)s is %(lowest)d to %(highest)d, not 7. Write 0 for Sunday.")
        raise BadTiming(
            "cron", reason % {"field": capfirst(label), "lowest": lowest, "highest": highest, "value": text}
        )
    try:
        known = callable(words) and words(text) is not None
    except KeyError:
        known = False
    if not known:
        raise BadTiming(
            "cron",
            _("%(field)s: “%(value)s” is no %(field_lower)s.")
            % {"field": capfirst(label), "value": text, "field_lower": label},
        )
