"""Why something is not as usual: written down as codes with their numbers, told in the language of whoever reads.

A list of `[code, {name: number or text}]`, as JSON. What a person wrote or a server answered is a text in it, word for word.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext_lazy, override

from schedules.durations import brief

# code, and its numbers and texts by name
Reason = tuple[str, Mapping[str, str | float]]

# Characters of a text that are kept: as many as a person may write.
LONGEST = 500

# No code ever changes its meaning: rows keep it.
WORDS: Mapping[str, Any] = {
    "words": "%(text)s",
    # What became of a due time
    "late": gettext_lazy("Sent %(duration)s late."),
    "stands_for": ngettext_lazy(
        "It stands for %(number)d that was missed, too.", "It stands for %(number)d that were missed, too.", "number"
    ),
    "runs_after": gettext_lazy("The run before is still alive; it runs when that ends."),
    "ran_after": gettext_lazy("It waited for the run before to end."),
    "alive": gettext_lazy("The run before is still alive."),
    "one_waits": gettext_lazy("One waits already."),
    "in_pause": gettext_lazy("It was paused: %(text)s"),
    "in_pause_of_beat": gettext_lazy("It was paused."),
    "too_late": gettext_lazy("Missed by more than its grace time of %(duration)s."),
    "missed": gettext_lazy("Missed: nothing could be sent when it was due."),
    "ended": gettext_lazy("The schedule ended before this could be sent."),
    "unwanted": gettext_lazy("It waited for the run before; meanwhile the schedule was turned off, paused or deleted."),
    "too_many": gettext_lazy("Missed; more than the limit of %(number)d to catch up."),
    "run_now": gettext_lazy("Run now"),
    "deleted": gettext_lazy("The schedule was deleted before it was sent."),
    # Why beat paused it
    "paused": gettext_lazy("Paused."),
    "failures": ngettext_lazy("The last run failed.", "The last %(number)d runs failed.", "number"),
    # Why it cannot run
    "no_json": gettext_lazy("%(field)s is not JSON: %(text)s"),
    "no_array": gettext_lazy("%(field)s must be a JSON array."),
    "no_object": gettext_lazy("%(field)s must be a JSON object."),
    "no_time": gettext_lazy("It has no time to run at."),
    "too_often": gettext_lazy("It would run more than once a second."),
    "bad_interval": gettext_lazy("An interval is at least a second and at most ten years."),
    "never": gettext_lazy("Its time never comes."),
    "bad_time": gettext_lazy("Its time cannot be computed: %(text)s"),
    "own_header": gettext_lazy("Celery sets the header %(text)s itself."),
    "arguments": gettext_lazy("%(task)s does not take these arguments: %(text)s"),
    # What a person did
    "act_enabled": gettext_lazy("Enabled."),
    "act_disabled": gettext_lazy("Disabled."),
    "act_paused": gettext_lazy("Paused: %(text)s"),
    "act_paused_until": gettext_lazy("Paused until %(until)s: %(text)s"),
    "act_resumed": gettext_lazy("Resumed."),
    "act_run": gettext_lazy("Run now, as task %(task)s."),
}


def reason(code: str, **facts: str | float) -> Reason:
    """One reason, as PostgreSQL takes it: without NUL and halves of surrogate pairs. Names with a meaning: `seconds`, `until` (ISO)."""
    return code, {name: _clean(fact) if isinstance(fact, str) else fact for name, fact in facts.items()}


def words(why: Iterable[Sequence[Any]] | None, otherwise: str = "") -> str:
    """Reasons as sentences in the language that is active; `otherwise` where there are none, or one of a newer version."""
    try:
        return " ".join(str(WORDS[code] % _shown(facts)) for code, facts in why or ()) or otherwise
    except (LookupError, TypeError, ValueError):
        return otherwise


def plain(why: Iterable[Reason]) -> str:
    """Reasons as English sentences: for logs, and for who reads the tables."""
    with override(None):
        return words(why)


def columns(many: Iterable[Sequence[Reason]]) -> list[tuple[str, str | None]]:
    """Of each: English words, which whoever reads the table finds, and the JSON of its codes, which the console tells (None of none)."""
    with override(None):  # once for all of a batch: it costs as much as the words
        return [(words(why), json.dumps(why)) if why else ("", None) for why in many]


def _clean(text: str) -> str:
    return text.replace("\0", "").encode(errors="replace").decode()[:LONGEST]


def _shown(facts: Mapping[str, Any]) -> dict[str, Any]:
    shown = dict(facts)
    if "seconds" in facts:
        shown["duration"] = brief(timedelta(seconds=facts["seconds"]))
    if "until" in facts:
        shown["until"] = date_format(timezone.localtime(datetime.fromisoformat(facts["until"])), _("D j M Y, H:i"))
    return shown
