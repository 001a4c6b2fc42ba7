"""Who did what to a schedule: written with each act, read as its history. Django's admin log keeps it."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.contrib.admin.models import ADDITION, CHANGE, DELETION, LogEntry
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.utils.translation import gettext_lazy, override

from schedules.models import Schedule
from schedules.reasons import reason, words
from schedules.spec import LABELS, Change

SHOWN = 100  # newest acts of one schedule
# The code of an act that is no edit -> what other screens of the admin say was changed.
FIELDS = {
    "act_enabled": LABELS["enabled"],
    "act_disabled": LABELS["enabled"],
    "act_paused": LABELS["paused"],
    "act_paused_until": LABELS["paused"],
    "act_resumed": LABELS["paused"],
    "act_run": gettext_lazy("Last run"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """One line of the history, in the reader's language: an edit with what it changed, or an act in words."""

    at: datetime
    who: str
    words: str
    changes: list[Change]


def edited(schedule: Schedule, by: User, changes: Sequence[Change], *, new: bool) -> None:
    """Note an edit, from what to what; one that changed nothing is not noted."""
    if not changes and not new:
        return
    diff = [[change.key, change.before, change.after] for change in changes]
    said = {"added": {}} if new else _changed(LABELS[change.key] for change in changes)
    _log(schedule, by, ADDITION if new else CHANGE, [said | {"diff": diff}])


def acted(schedule: Schedule, by: User, code: str, **facts: str) -> None:
    """Note an act that is no edit, by its code (a key of FIELDS) and the facts that its words name."""
    _log(schedule, by, CHANGE, [_changed([FIELDS[code]]) | {"act": reason(code, **facts)}])


def deleted(schedule: Schedule, by: User) -> None:
    """Note that it is gone; before it is deleted."""
    _log(schedule, by, DELETION, "")


def history(schedule: Schedule) -> list[Act]:
    """The newest acts first."""
    entries = LogEntry.objects.filter(content_type=_content_type(), object_id=str(schedule.pk))
    return [_act(entry) for entry in entries.select_related("user").order_by("-action_time", "-pk")[:SHOWN]]


def _changed(labels: Iterable[object]) -> dict[str, Any]:
    """The admin's own form of a message, whose fields it translates when it is shown; what stands beside it only we read."""
    with override(None):
        return {"changed": {"fields": [str(label) for label in labels]}}


def _log(schedule: Schedule, by: User, flag: int, message: str | list[Any]) -> None:
    LogEntry.objects.log_actions(by.pk, [schedule], flag, message, single_object=True)


def _act(entry: LogEntry) -> Act:
    said = _read(entry.change_message)
    changes = [Change(key=key, before=before, after=after) for key, before, after in said.get("diff", [])]
    told = entry.get_change_message() if entry.is_change() else str(entry.get_action_flag_display())
    told = words([said["act"]], told) if "act" in said else told
    return Act(at=entry.action_time, who=entry.user.get_username(), words=told, changes=changes)


def _read(message: str) -> dict[str, Any]:
    """What we noted beside the admin's words; nothing in an entry of the admin's own, or an old one that is a sentence."""
    try:
        (said,) = json.loads(message)
    except (ValueError, TypeError):
        return {}
    return said if isinstance(said, dict) else {}


def _content_type() -> ContentType:
    return ContentType.objects.get_for_model(Schedule, for_concrete_model=False)
