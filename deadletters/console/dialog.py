"""What is asked before many letters are replayed: the filter in words, a dry run of a part of them, and sensible conditions."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db.models import Max
from django.utils import timezone
from django.utils.translation import gettext as _

from deadletters.console.listing import AgeFilter, Count, count
from deadletters.models import Cause, State
from deadletters.redrive.redrive import NotRedrivable
from deadletters.redrive.tend import AT_ONCE
from deadletters.replay.preflight import Preflight, Verdict, preflight, summed_up
from deadletters.selection import Selection, parse_since

# So many are looked at before the person decides; `replay_dead_letters --dry-run` looks at all.
LOOKED_AT = 200
NAMED = 12

# How an address of the list calls the parts of a selection.
_LISTS = {"task_name": "tasks", "cause": "causes", "queue": "queues"}
_TEXTS = {"fingerprint": "error", "root_id": "root", "q": "text"}
_IGNORED = {
    "state",
    "before",
    "after",
    "upto",
    "next",
    "csrfmiddlewaretoken",
    "rate",
    "canary",
    "stop_above",
    "reason",
    "e",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialog:
    """The form's contents."""

    words: str
    number: Count
    hidden: list[tuple[str, str]]
    checks: list[Preflight]
    verdicts: list[tuple[Verdict, int]]
    all_looked_at: bool
    rate: str
    canary: str
    stop_above: str
    reason: str = ""
    frees: int = 0
    names: list[str] = field(default_factory=list)


def asked(given: Mapping[str, str]) -> tuple[Selection, int | None]:
    """The selection that an address or a form of the console means, and the highest letter that the person was told of.

    Raises:
        NotRedrivable: it narrows by something that a redrive does not know: more would be sent than the list shows.
    """
    parts: dict[str, Any] = {"states": (State.OPEN.value,)}
    for name, typed in given.items():
        value = typed.replace("\0", "")  # of a form; an address with one does not come here
        if not value or name in _IGNORED:
            continue
        if name == "cause" and value not in Cause.values:
            raise NotRedrivable(_("There is no cause “%s”.") % value)
        if name in _LISTS:
            parts[_LISTS[name]] = (value,)
        elif name in _TEXTS:
            parts[_TEXTS[name]] = value
        elif name == "ids" and re.fullmatch(r"\d{1,18}(,\d{1,18})*", value, re.ASCII):
            parts["numbers"] = tuple(map(int, value.split(",")))
        elif name == "age" and value in AgeFilter.ages:
            parts["since"] = timezone.now() - AgeFilter.ages[value][1]
        elif name == "since":
            parts["since"] = _moment(value)
        else:
            raise NotRedrivable(_("The list is narrowed by “%s”, which a redrive does not know.") % name)
    return Selection(**parts), letter_number(given.get("upto", ""))


def letter_number(text: str) -> int | None:
    """The number of a letter that a form names; None for what is none."""
    return int(text) if re.fullmatch(r"\d{1,18}", text, re.ASCII) else None


def _moment(text: str) -> datetime:
    try:
        return parse_since(text)
    except ValueError as problem:
        raise NotRedrivable(str(problem)) from None


def dialog_of(selection: Selection, upto: int | None, given: Mapping[str, str] | None = None) -> Dialog:
    """Look at what would be replayed.

    Raises:
        TooShort: the search text is.
    """
    letters = selection.letters()
    if upto is None:
        upto = letters.order_by().aggregate(upto=Max("pk"))["upto"] or 0
    letters, given = letters.filter(pk__lte=upto), given or {}
    number = count(letters)
    checks = preflight(letters.defer(None)[:LOOKED_AT])
    checks.sort(key=lambda check: -check.verdict)
    few = number.number <= AT_ONCE
    names = [name for check in checks for name in check.frees.names]
    return Dialog(
        words=selection.in_words(),
        number=number,
        hidden=[*_hidden(selection), ("upto", str(upto))],
        checks=checks[:NAMED],
        verdicts=list(summed_up(checks).items()),
        all_looked_at=number.number <= LOOKED_AT,
        rate=given.get("rate", "" if few else "50"),
        canary=given.get("canary", "0" if few else "10"),
        stop_above=given.get("stop_above", "20"),
        reason=given.get("reason", ""),
        frees=sum(len(check.frees.task_ids) for check in checks),
        names=list(dict.fromkeys(names))[:NAMED],
    )


def _hidden(selection: Selection) -> list[tuple[str, str]]:
    """The selection as fields of the form; a moment instead of an age, so that it stays the one that was asked for."""
    found = [(name, getattr(selection, part)[0]) for name, part in _LISTS.items() if getattr(selection, part)]
    found += [(name, getattr(selection, part)) for name, part in _TEXTS.items() if getattr(selection, part)]
    if selection.numbers:
        found.append(("ids", ",".join(map(str, selection.numbers))))
    if selection.since:
        found.append(("since", selection.since.isoformat()))
    return found
