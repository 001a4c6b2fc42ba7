"""The form of a schedule: one form, whatever kind of time it runs at."""

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

from celery import current_app
from django import forms
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from schedules import calls, due, edit
from schedules.fields import JSONText, LocalDateTime
from schedules.models import Schedule

KINDS = (("cron", _("Cron line")), ("every", _("Every …")), ("once", _("Once at")))
PERIODS = (("seconds", _("seconds")), ("minutes", _("minutes")), ("hours", _("hours")), ("days", _("days")))
# What the preview needs; arguments stay out of its address.
T = TypeVar("T")
TIMING_FIELDS = ("kind", "cron", "timezone", "every", "period", "at", "start")


class ScheduleForm(forms.ModelForm):  # type: ignore[type-arg]  # Django's is no generic at run time
    """Validates everything that would otherwise fail when it is due; `timing` is the checked timing, or None."""

    kind = forms.ChoiceField(label=_("Runs"), choices=KINDS, widget=forms.RadioSelect, initial="cron")
    cron = forms.CharField(
        label=_("Cron line"),
        required=False,
        max_length=200,
        initial="0 9 * * *",
        help_text=_("minute · hour · day of month · month · weekday (0–6, 0 = Sunday)"),
        widget=forms.TextInput(attrs={"class": "cron", "spellcheck": "false", "autocomplete": "off"}),
    )
    every = forms.IntegerField(label=_("Every"), required=False, initial=5)
    period = forms.ChoiceField(label=_("Unit"), required=False, choices=PERIODS, initial="minutes")
    at = LocalDateTime(label=_("Date and time"))
    timezone = forms.CharField(
        label=_("Time zone"),
        help_text=_("The clocks that the cron line, the moment and the start date are read by."),
        widget=forms.TextInput(attrs={"list": "zones", "autocomplete": "off", "spellcheck": "false"}),
    )
    args = JSONText(label=_("Arguments"), kind=list, help_text=_("A JSON array."))
    kwargs = JSONText(label=_("Keyword arguments"), kind=dict, help_text=_("A JSON object."))
    headers = JSONText(label=_("Headers"), kind=dict, help_text=_("Headers of the message, a JSON object."))
    start = LocalDateTime(label=_("Start date"), help_text=_("Nothing runs before. Empty: at once."))

    class Meta:
        model = Schedule
        fields = ("name", "task", "enabled", "description", "queue", "priority", "expire_seconds")
        labels = {
            "name": _("Name"),
            "task": _("Task"),
            "queue": _("Queue"),
            "priority": _("Priority"),
            "expire_seconds": _("Expires after (seconds)"),
        }
        help_texts = {
            "name": "",
            "task": "",
            "enabled": "",
            "description": "",
            "queue": _("Empty: the task's own queue. A worker must listen to it."),
            "priority": _("0 to 255; on Redis 0 is the most urgent. Empty: the task's own."),
            "expire_seconds": _("A message that waited longer is not run. Empty: it waits for ever."),
        }
        widgets = {
            "name": forms.TextInput,
            "task": forms.TextInput(attrs={"list": "tasks", "autocomplete": "off", "spellcheck": "false"}),
            "queue": forms.TextInput(attrs={"list": "queues", "autocomplete": "off", "spellcheck": "false"}),
            "description": forms.Textarea(attrs={"rows": 2}),
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.timing: due.Timing | None = None
        self.initial = {**_initial(self.instance), **self.initial}
        if self.instance.solar:
            kind = self.fields["kind"]
            assert isinstance(kind, forms.ChoiceField)
            kind.choices = [*KINDS, ("keep", _("As it is: %s") % self.instance.solar)]

    def clean_task(self) -> str:
        """A registered task."""
        name: str = self.cleaned_data["task"]
        try:
            calls.check_task(name)
        except calls.BadCall as problem:
            raise forms.ValidationError(str(problem)) from None
        return name

    def clean_expire_seconds(self) -> int | None:
        """At least one second: beat takes 0 for none."""
        seconds: int | None = self.cleaned_data["expire_seconds"]
        if seconds == 0:
            raise forms.ValidationError(_("At least 1. Leave it empty for messages that never expire."))
        if seconds and self.instance.expires:
            raise forms.ValidationError(_("This schedule has an end date already; it cannot have both."))
        return seconds

    def clean(self) -> dict[str, Any]:
        """The timing and the call, each checked as a whole."""
        data: dict[str, Any] = super().clean() or self.cleaned_data
        zone = self._read(lambda: due.parse_zone(data["timezone"])) if data.get("timezone") else None
        if zone:
            self.timing = self._read(lambda: self._timing(data, zone))
            self._place(data, zone)
        if {"task", "args", "kwargs"} <= data.keys():
            self._read(lambda: calls.check_call(data["task"], data["args"], data["kwargs"]))
        for field in ("args", "kwargs", "headers"):
            if field in data:
                setattr(self.instance, field, json.dumps(data[field], ensure_ascii=False))
        return data

    def validate_unique(self) -> None:
        """The model's own complaint about a missing timing would only repeat ours."""
        if self.timing or self.instance.scheduler:
            super().validate_unique()

    def save(self, commit: bool = True) -> Schedule:  # noqa: FBT001, FBT002  (Django's signature)
        """Write it through the one verb that does."""
        schedule: Schedule = super().save(commit=False)
        if commit:
            edit.save(schedule)
        return schedule

    def _read(self, read: Callable[[], T]) -> T | None:
        try:
            return read()
        except (due.BadTiming, calls.BadCall) as problem:
            self.add_error(problem.field, str(problem))
            return None

    def _timing(self, data: dict[str, Any], zone: ZoneInfo) -> due.Timing | None:
        match data.get("kind"):
            case "cron" if "cron" in data:
                return due.Cron.parse(data["cron"], zone)
            case "every" if {"every", "period"} <= data.keys():
                if data["every"] is None:
                    raise due.BadTiming("every", gettext("Say every how many."))
                return due.Every.parse(data["every"], data["period"])
            case "once" if "at" in data:
                return self._moment(data["at"], zone)
        return None

    def _moment(self, at: datetime | None, zone: ZoneInfo) -> due.Once:
        if at is None:
            raise due.BadTiming("at", gettext("Say when."))
        timing = due.Once(at=at.replace(tzinfo=zone))
        unchanged = self.instance.clocked and self.instance.clocked.clocked_time == timing.at
        if timing.at <= timezone.now() and not (unchanged and not self.cleaned_data.get("enabled")):
            raise due.BadTiming("at", gettext("This moment has passed."))
        return timing

    def _place(self, data: dict[str, Any], zone: ZoneInfo) -> None:
        if self.timing:
            edit.place(self.instance, self.timing)
        if "start" in data:
            start = data["start"] and data["start"].replace(tzinfo=zone)
            if start and isinstance(self.timing, due.Once) and start > self.timing.at:
                self.add_error("start", _("It starts after its only moment, so it would never run."))
            self.instance.start_time = start


def _initial(schedule: Schedule) -> dict[str, Any]:
    if not schedule.scheduler:
        return {"timezone": str(current_app.conf.timezone), "args": "[]", "kwargs": "{}", "headers": "{}"}
    zone = schedule.zone
    initial: dict[str, Any] = {field: getattr(schedule, field) or "" for field in ("args", "kwargs", "headers")}
    initial |= {"timezone": zone.key, "start": _wall(schedule.start_time, zone)}
    if schedule.crontab:
        return initial | {"kind": "cron", "cron": schedule.cron_line}
    if schedule.interval:
        return initial | {"kind": "every", "every": schedule.interval.every, "period": schedule.interval.period}
    if schedule.clocked:
        return initial | {"kind": "once", "at": _wall(schedule.clocked.clocked_time, zone)}
    return initial | {"kind": "keep"}


def _wall(moment: datetime | None, zone: ZoneInfo) -> datetime | None:
    return moment and moment.astimezone(zone).replace(tzinfo=None, microsecond=0)
