"""Who did what to a schedule: written with each act, read as its history. Django's admin log keeps it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.contrib.admin.models import ADDITION, CHANGE, DELETION, LogEntry
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType

from schedules.models import Schedule
from schedules.spec import Change

SHOWN = 100  # newest acts of one schedule


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """One line of the history: an edit with what it changed, or an act in words."""

    at: datetime
    who: str
    words: str
    changes: list[Change]


def edited(schedule: Schedule, by: User, changes: Sequence[Change], *, new: bool) -> None:
    """Note an edit, from what to what; one that changed nothing is not noted."""
    if not changes and not new:
        return
    # The admin's own form of a message, and beside it what only we read.
    said = {"added": {}} if new else {"changed": {"fields": [change.label for change in changes]}}
    diff = [[change.key, change.before, change.after] for change in changes]
    _log(schedule, by, ADDITION if new else CHANGE, [said | {"diff": diff}])


def acted(schedule: Schedule, by: User, words: str) -> None:
    """Note an act that is no edit: enabled, disabled, run now."""
    _log(schedule, by, CHANGE, words)


def deleted(schedule: Schedule, by: User) -> None:
    """Note that it is gone; before it is deleted."""
    _log(schedule, by, DELETION, "")


def history(schedule: Schedule) -> list[Act]:
    """The newest acts first."""
    entries = LogEntry.objects.filter(content_type=_content_type(), object_id=str(schedule.pk))
    return [_act(entry) for entry in entries.select_related("user").order_by("-action_time", "-pk")[:SHOWN]]


def _log(schedule: Schedule, by: User, flag: int, message: str | list[Any]) -> None:
    LogEntry.objects.log_actions(by.pk, [schedule], flag, message, single_object=True)


def _act(entry: LogEntry) -> Act:
    try:
        said = json.loads(entry.change_message)[0]
        changes = [Change(key=key, before=before, after=after) for key, before, after in said["diff"]]
    except (ValueError, LookupError, TypeError):  # an act in words, or an entry of the admin's own
        changes = []
    words = entry.get_change_message() if entry.is_change() else str(entry.get_action_flag_display())
    return Act(at=entry.action_time, who=entry.user.get_username(), words=words, changes=changes)


def _content_type() -> ContentType:
    return ContentType.objects.get_for_model(Schedule, for_concrete_model=False)
