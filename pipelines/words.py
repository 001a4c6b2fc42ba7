"""States, lengths of time and values as people read them."""

import json
from dataclasses import dataclass
from datetime import timedelta

from django.utils import timezone
from django.utils.formats import number_format
from django.utils.translation import gettext as _

from deadletters.envelope import clean
from pipelines.models import Run
from pipelines.runs import Progress
from pipelines.states import LABELS, MEANING, Overall, State


@dataclass(frozen=True, kw_only=True)
class Chip:
    """A state with its word, what it means, and how many are in it."""

    state: str
    label: str
    meaning: str = ""
    number: int = 1


def chip(state: State | Overall, number: int = 1) -> Chip:
    """A state with its word."""
    meaning = MEANING.get(state, "") if isinstance(state, State) else ""
    return Chip(state=state.value, label=str(LABELS[state]), meaning=str(meaning), number=number)


def took(run: Run, progress: Progress) -> str:
    """How long a run took, or takes so far; "" when it never ran."""
    end = progress.ended_at or (timezone.now() if progress.moving else None)
    return duration(end - run.created_at) if end else ""


def duration(time: timedelta) -> str:
    """A length of time in at most two units: 40 ms, 2.5 s, 26 s, 3 min 5 s, 2 h 10 min."""
    seconds = max(time.total_seconds(), 0)
    if seconds < 1:
        return _("%(number)d ms") % {"number": round(seconds * 1000)}
    if seconds < 10:
        return _("%(number)s s") % {"number": number_format(round(seconds, 1), 1)}
    if seconds < 60:
        return _("%(number)d s") % {"number": seconds}
    if seconds < 3600:
        return _("%(minutes)d min %(seconds)d s") % {"minutes": seconds // 60, "seconds": seconds % 60}
    return _("%(hours)d h %(minutes)d min") % {"hours": seconds // 3600, "minutes": seconds % 3600 // 60}


def as_json(value: object) -> str:
    """JSON to read. Half of a surrogate pair is written as an escape: with the character itself nothing could be sent."""
    return clean(json.dumps(value, indent=2, ensure_ascii=False, default=str))
