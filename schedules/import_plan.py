"""What a file would change, by the rules of the form; and doing it, all or nothing."""

import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC
from typing import Any

from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _

from schedules import edit, pause, trail
from schedules.fields import LocalDateTime
from schedules.forms import ScheduleForm
from schedules.models import Schedule
from schedules.spec import Change, Spec, changes, compact, spec_of
from schedules.typed import BadSpec, default_zone, typed

CHUNK = 500
# Fields of the form that a file calls otherwise.
KEYS = {"kind": "cron", "period": "every", "at": "once", "event": "solar", "latitude": "solar", "longitude": "solar"}
# Turning on and off, which has a permission of its own.
SWITCHES = frozenset({"enabled", "paused"})


class NotAllowed(Exception):
    """Whoever imports lacks a permission for something in the plan. str() says which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One line of a plan. `act`: create, change, unchanged, remove or refused, which has `problems` (key, reason)."""

    act: str
    name: str
    changes: list[Change] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)
    schedule: Schedule | None = None
    paused: dict[str, str | None] | None = None


class FileForm(ScheduleForm):
    """Takes a moment that has passed where the schedule is off: it was saved before, elsewhere."""

    past_when_off = True


def plan(specs: Sequence[Spec], *, prune: bool = False, anyway: bool = False) -> list[Step]:
    """A step for each spec, and with `prune` one for each schedule that is not among them. Nothing is written.

    `anyway`: also tasks and queues that are unknown here.
    """
    steps: list[Step] = []
    seen: set[str] = set()
    for start in range(0, len(specs), CHUNK):
        part = specs[start : start + CHUNK]
        rows = _rows().filter(name__in=[spec["name"] for spec in part])
        saved = {row.name: row for row in rows}
        for spec in part:
            name = spec["name"]
            twice = _refused(name, [("name", _("It is in the file twice."))]) if name in seen else None
            steps.append(twice or _step(spec, saved.get(name), anyway=anyway))
            seen.add(name)
    if prune:
        gone = _rows().exclude(name__in=seen) if len(seen) < CHUNK else _rows()
        steps += [
            Step(act="remove", name=row.name, schedule=row) for row in gone.order_by("name") if row.name not in seen
        ]
    return steps


def missing_permissions(steps: Iterable[Step], by: User) -> list[str]:
    """The permissions that this plan needs and `by` lacks."""
    return sorted({needed for step in steps for needed in _needs(step)} - by.get_all_permissions())


@transaction.atomic
def apply(steps: Sequence[Step], *, by: User) -> None:
    """Do what the plan says; each step is put on the trail of its schedule.

    Raises:
        NotAllowed: `by` lacks a permission. Nothing was written.
    """
    if lacking := missing_permissions(steps, by):
        raise NotAllowed(_("%(user)s lacks %(permissions)s.") % {"user": by, "permissions": ", ".join(lacking)})
    for step in steps:
        if step.schedule is None:
            continue
        if step.act == "remove":
            trail.deleted(step.schedule, by)
            step.schedule.delete()
        elif step.act in {"create", "change"}:
            # Of two schedules with one new time the first has made its row meanwhile.
            if step.schedule.timing:
                edit.place(step.schedule, step.schedule.timing)
            edit.save(step.schedule, by=by)
            _pause(step, by)


def _rows() -> Any:
    return Schedule.objects.select_related("crontab", "interval", "clocked", "solar", "policy")


def _step(spec: Spec, saved: Schedule | None, *, anyway: bool) -> Step:
    before = spec_of(saved) if saved else None
    if before and not changes(before, {**({"timezone": default_zone()} if "cron" in spec else {}), **spec}):
        return Step(act="unchanged", name=spec["name"])
    try:
        data = typed(spec)
    except BadSpec as problem:
        return _refused(spec["name"], [(problem.key, str(problem))])
    try:
        paused = _read_pause(spec.get("paused"))
    except BadSpec as problem:
        return _refused(spec["name"], [(problem.key, str(problem))])
    form = FileForm(data | {"anyway": anyway}, instance=copy.copy(saved) if saved else None)
    if not form.is_valid():
        return _refused(
            spec["name"], [(KEYS.get(name, name), str(why)) for name, whys in form.errors.items() for why in whys]
        )
    after = spec_of(form.instance) | {"paused": paused}
    found = changes(before or {}, after if before else compact(after))
    if before and not found:
        return Step(act="unchanged", name=spec["name"])
    return Step(
        act="change" if before else "create", name=spec["name"], changes=found, schedule=form.instance, paused=paused
    )


def _read_pause(paused: Any) -> dict[str, str | None] | None:
    if paused is None:
        return None
    reason = str(paused.get("reason") or "") if isinstance(paused, dict) else ""
    if not reason.strip() or "\0" in reason:
        raise BadSpec("paused", _("A pause is {reason: …}, with until: … where it has an end."))
    if not paused.get("until"):
        return {"reason": str(paused["reason"]), "until": None}
    try:
        until = LocalDateTime().to_python(paused["until"])
    except ValidationError:
        until = None
    if until is None or until.tzinfo is None:
        raise BadSpec("paused", _("“until” is a time with its offset, like 2026-12-01T09:00:00+00:00."))
    if until <= timezone.now():
        raise BadSpec("paused", _("Its end has passed."))
    return {"reason": str(paused["reason"]), "until": until.astimezone(UTC).isoformat()}


def _refused(name: str, problems: list[tuple[str, str]]) -> Step:
    return Step(act="refused", name=name, problems=problems)


def _needs(step: Step) -> Iterator[str]:
    keys = {change.key for change in step.changes}
    match step.act:
        case "remove":
            yield "schedules.delete_schedule"
        case "create":
            yield "schedules.add_schedule"
            if step.schedule and step.schedule.enabled:
                yield "schedules.enable_schedule"
        case "change":
            if keys - SWITCHES:
                yield "schedules.change_schedule"
            if keys & SWITCHES:
                yield "schedules.enable_schedule"


def _pause(step: Step, by: User) -> None:
    if step.schedule is None or not any(change.key == "paused" for change in step.changes):
        return
    if step.paused:
        until = parse_datetime(step.paused["until"] or "")
        pause.pause(step.schedule, reason=str(step.paused["reason"]), until=until, by=by)
    else:
        pause.resume(step.schedule, by=by)


def lines(step: Step) -> Iterator[str]:
    """The step as a diff says it; nothing for what stays as it is."""
    sign = {"create": "+", "change": "~", "remove": "-", "refused": "!"}.get(step.act)
    if sign is None:
        return
    yield f"{sign} {step.name}"
    for change in step.changes:
        if change.key == "name":
            continue
        yield (
            f"    {change.key}: {change.to_words}"
            if step.act == "create"
            else f"    {change.key}: {change.from_words} → {change.to_words}"
        )
    for key, why in step.problems:
        yield f"    {key}: {why}"
