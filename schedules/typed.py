"""A spec as somebody would type it into the form: what the form shows of a saved schedule, and how a file is validated by it."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from celery import current_app
from django.utils.translation import gettext as _

from schedules.models import Schedule
from schedules.spec import DEFAULTS, LABELS, POLICY, spec_of

TIMES = ("cron", "every", "once", "solar")
MOMENTS = {"at": "once", "start": "start", "end": "end"}
# Keys that are fields of the same name, and need no more than text.
PLAIN = ("name", "task", "queue", "exchange", "routing_key", "priority", "expire_seconds", "description", *POLICY)


class BadSpec(ValueError):
    """Part of a file is no schedule. str() says why, `key` which key."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(reason)
        self.key = key


def typed(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The form's data for this spec; the form then says what is wrong with a value.

    Raises:
        BadSpec: a key that no schedule has, or none or several of TIMES.
    """
    if unknown := sorted(set(map(str, spec)) - set(LABELS)):
        raise BadSpec(unknown[0], _("A schedule has no “%(key)s”. It has %(keys)s.") % {"key": unknown[0], "keys": ", ".join(LABELS)})  # fmt: skip
    if len(times := [key for key in TIMES if spec.get(key) is not None]) != 1:
        raise BadSpec(times[1] if times else "cron", _("Exactly one of %s is needed.") % ", ".join(TIMES))
    full = DEFAULTS | dict(spec)
    data: dict[str, Any] = {key: "" if full.get(key) is None else str(full[key]) for key in PLAIN}
    data |= {key: _json(full[key]) for key in ("args", "kwargs", "headers")}
    data |= {key: _flag(key, full[key]) for key in ("enabled", "one_off")}
    data |= {field: str(full.get(key) or "") for field, key in MOMENTS.items()}
    data |= {"timezone": str(full.get("timezone") or default_zone()), "arguments": "json"}
    return data | _timing(times[0], full[times[0]])


def default_zone() -> str:
    """The zone of a schedule that names none."""
    return str(current_app.conf.timezone)


def initial(schedule: Schedule) -> dict[str, Any]:
    """What the form shows for a saved schedule, its moments by the clocks of its zone; also for a row that cannot run."""
    if not schedule.scheduler:
        return {"timezone": default_zone(), "args": "[]", "kwargs": "{}", "headers": "{}"}
    data = typed(spec_of(schedule) | {"timezone": schedule.zone.key})
    del data["arguments"]  # the form knows better which of the two fits
    for field in MOMENTS:
        data[field] = _wall(data[field], schedule.zone)
    # As it was written, spaces and all.
    return data | {field: getattr(schedule, field) or "" for field in ("args", "kwargs", "headers")}


def _timing(kind: str, value: Any) -> dict[str, Any]:
    match kind:
        case "cron":
            return {"kind": "cron", "cron": str(value)}
        case "every":
            number, _space, period = str(value).partition(" ")
            return {"kind": "every", "every": number, "period": period.rstrip("s") + "s" if period else ""}
        case "once":
            return {"kind": "once"}
    event, latitude, longitude = [*str(value).split(), "", "", ""][:3]
    return {"kind": "solar", "event": event, "latitude": latitude, "longitude": longitude}


def _json(value: Any) -> str:
    if isinstance(value, str):
        return value  # a saved text that is no JSON
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError):  # YAML knows dates, JSON does not
        return str(value)


def _flag(key: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise BadSpec(key, _("“%(key)s” is true or false.") % {"key": key})
    return value


def _wall(moment: str, zone: ZoneInfo) -> datetime | None:
    return datetime.fromisoformat(moment).astimezone(zone).replace(tzinfo=None, microsecond=0) if moment else None
