"""A schedule as plain values: what an operator decided about it, and nothing that beat notes. Files, plans and histories are made of this."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from django.utils.translation import gettext_lazy as _

from schedules.models import Policy, Schedule

Spec = dict[str, Any]

# Every key, in the order of files and histories, with its name for people.
LABELS = {
    "name": _("Name"),
    "task": _("Task"),
    "enabled": _("On"),
    "cron": _("Cron line"),
    "every": _("Every"),
    "once": _("Once at"),
    "solar": _("Event of the sun"),
    "timezone": _("Time zone"),
    "args": _("Arguments"),
    "kwargs": _("Keyword arguments"),
    "queue": _("Queue"),
    "exchange": _("Exchange"),
    "routing_key": _("Routing key"),
    "priority": _("Priority"),
    "headers": _("Headers"),
    "expire_seconds": _("Expires after (seconds)"),
    "start": _("Start date"),
    "end": _("End date"),
    "one_off": _("Only once"),
    "overlap": _("If it is still running"),
    "missed": _("If runs were missed"),
    "catch_up_limit": _("Run at most"),
    "grace": _("Grace time (seconds)"),
    "jitter": _("Jitter (seconds)"),
    "pause_after_failures": _("Pause after failures"),
    "paused": _("Paused"),
    "description": _("Description"),
}
# What is meant when a file does not say it; exports leave these out.
DEFAULTS: Spec = {
    "enabled": True,
    "args": [],
    "kwargs": {},
    "queue": None,
    "exchange": None,
    "routing_key": None,
    "priority": None,
    "headers": {},
    "expire_seconds": None,
    "start": None,
    "end": None,
    "one_off": False,
    "description": "",
    "paused": None,
}
# The columns of a policy that are decided in the form.
POLICY = ("overlap", "missed", "catch_up_limit", "grace", "jitter", "pause_after_failures")
DEFAULTS |= {name: getattr(Policy(), name) for name in POLICY}


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One key that differs. A value that is not there is None."""

    key: str
    before: Any
    after: Any

    @property
    def label(self) -> str:
        """The key, for people."""
        return str(LABELS.get(self.key, self.key))

    @property
    def from_words(self) -> str:
        """The value before, in one line."""
        return shown(self.before)

    @property
    def to_words(self) -> str:
        """The value after, in one line."""
        return shown(self.after)


def spec_of(schedule: Schedule) -> Spec:
    """Everything that an operator decides, with the keys of LABELS. Text that is no JSON stays text, so that nothing is lost."""
    policy = policy_of(schedule)
    return {
        "name": schedule.name,
        "task": schedule.task,
        "enabled": schedule.enabled,
        **_timing(schedule),
        "args": _parsed(schedule.args, []),
        "kwargs": _parsed(schedule.kwargs, {}),
        "queue": schedule.queue or None,
        "exchange": schedule.exchange or None,
        "routing_key": schedule.routing_key or None,
        "priority": schedule.priority,
        "headers": _parsed(schedule.headers, {}),
        "expire_seconds": schedule.expire_seconds,
        "start": _moment(schedule.start_time),
        "end": _moment(schedule.expires),
        "one_off": schedule.one_off and not schedule.clocked,
        **{name: getattr(policy, name) for name in POLICY},
        "paused": _pause(policy),
        "description": schedule.description,
    }


def policy_of(schedule: Schedule) -> Policy:
    """Its policy; one of defaults, not saved, where it has none."""
    try:
        policy: Policy = schedule.policy
    except Policy.DoesNotExist:
        policy = Policy(schedule_id=schedule.pk)
    return policy


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    """What differs between two specs, in the order of LABELS; a key that is not there has its default."""
    was, now = DEFAULTS | dict(before), DEFAULTS | dict(after)
    return [
        Change(key=key, before=was.get(key), after=now.get(key))
        for key in LABELS
        if not _same(was.get(key), now.get(key))
    ]


def shown(value: Any) -> str:
    """A value in one line; an absent one as a dash."""
    if value is None or value == "":
        return "–"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def compact(spec: Spec) -> Spec:
    """The spec without what is meant anyway."""
    return {
        key: spec[key] for key in LABELS if key in spec and not (key in DEFAULTS and _same(spec[key], DEFAULTS[key]))
    }


def digest(spec: Spec) -> str:
    """The same for two specs whose keys in the form are the same."""
    told = {key: value for key, value in spec.items() if key != "paused"}
    return sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]


def _timing(schedule: Schedule) -> Spec:
    if schedule.crontab:
        return {"cron": schedule.cron_line, "timezone": str(schedule.crontab.timezone)}
    if schedule.interval:
        return {"every": f"{schedule.interval.every} {schedule.interval.period}"}
    if schedule.clocked:
        return {"once": _moment(schedule.clocked.clocked_time)}
    if schedule.solar:
        sun = schedule.solar
        return {"solar": f"{sun.event} {sun.latitude} {sun.longitude}"}
    return {}


def _parsed(text: str | None, empty: Any) -> Any:
    if not text:
        return empty
    try:
        parsed = json.loads(text)
        json.dumps(parsed, ensure_ascii=False).encode()  # half a character is in no file and on no page
    except (ValueError, RecursionError):
        return text
    return parsed


def _pause(policy: Policy) -> dict[str, str | None] | None:
    if policy.paused_at is None:
        return None
    return {"reason": policy.pause_reason, "until": _moment(policy.paused_until)}


def _moment(moment: datetime | None) -> str | None:
    return moment.astimezone(UTC).isoformat() if moment else None


def _same(one: Any, other: Any) -> bool:
    """Equal as JSON is: 1, 1.0 and true are three things. A date, which a file may hold, equals none of ours."""
    return json.dumps(one, sort_keys=True, default=str) == json.dumps(other, sort_keys=True, default=str)
