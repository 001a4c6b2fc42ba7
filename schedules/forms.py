"""The form of a schedule: one form, whatever kind of time it runs at."""

import json
from collections.abc import Callable
from datetime import datetime
from itertools import islice
from typing import Any, ClassVar, TypeVar, cast
from zoneinfo import ZoneInfo

from django import forms
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from schedules import calls, due, edit
from schedules.fields import JSONText, LocalDateTime
from schedules.message import RESERVED, refused_headers
from schedules.models import Schedule
from schedules.parameter_fields import ParameterFields
from schedules.parameters import check_types
from schedules.policy_fields import PolicyFields
from schedules.spec import digest, spec_of
from schedules.typed import initial

KINDS = (("cron", _("Cron line")), ("every", _("Every …")), ("once", _("Once at")), ("solar", _("By the sun")))
PERIODS = (("seconds", _("seconds")), ("minutes", _("minutes")), ("hours", _("hours")), ("days", _("days")))
# What the preview needs; arguments stay out of its address.
TIMING_FIELDS = ("kind", "cron", "timezone", "every", "period", "at", "event", "latitude", "longitude", "start", "end")
T = TypeVar("T")


class ScheduleForm(forms.ModelForm, ParameterFields, PolicyFields):  # type: ignore[type-arg]  # Django's is no generic at run time
    """Validates everything that would otherwise fail when it is due; `timing` is the checked timing, or None."""

    # Whether this person may turn schedules on and off; without, a new one is off and a saved one stays as it is.
    may_enable: ClassVar[bool] = True
    # Whether a moment that has passed is taken for a schedule that is off.
    past_when_off: ClassVar[bool] = False

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
    event = forms.ChoiceField(label=_("Event"), required=False, choices=tuple(due.EVENTS.items()), initial="sunrise")
    latitude = forms.DecimalField(
        label=_("Latitude"), required=False, min_value=-90, max_value=90, max_digits=9, decimal_places=6
    )
    longitude = forms.DecimalField(
        label=_("Longitude"), required=False, min_value=-180, max_value=180, max_digits=9, decimal_places=6
    )
    timezone = forms.CharField(
        label=_("Time zone"),
        help_text=_("The clocks that the cron line, the moment, the start and the end date are read by."),
        widget=forms.TextInput(attrs={"list": "zones", "autocomplete": "off", "spellcheck": "false"}),
    )
    args = JSONText(label=_("Arguments"), kind=list, help_text=_("A JSON array."))
    kwargs = JSONText(label=_("Keyword arguments"), kind=dict, help_text=_("A JSON object."))
    headers = JSONText(label=_("Headers"), kind=dict, help_text=_("Headers of the message, a JSON object."))
    start = LocalDateTime(label=_("Start date"), help_text=_("Nothing runs before. Empty: at once."))
    end = LocalDateTime(label=_("End date"), help_text=_("Nothing runs from then on. Empty: it goes on."))
    # What was saved when the form was opened.
    seen = forms.CharField(required=False, widget=forms.HiddenInput)
    anyway = forms.BooleanField(
        label=_("Schedule it anyway"),
        required=False,
        help_text=_("The task or queue is unknown here: arguments are not checked, and the message waits for a worker that knows it."),
    )  # fmt: skip

    class Meta:
        model = Schedule
        fields = ("name", "task", "enabled", "description", "queue", "exchange", "routing_key", "priority", "expire_seconds", "one_off")  # fmt: skip
        labels = {
            "name": _("Name"),
            "task": _("Task"),
            "queue": _("Queue"),
            "exchange": _("Exchange"),
            "routing_key": _("Routing key"),
            "priority": _("Priority"),
            "expire_seconds": _("Expires after (seconds)"),
            "one_off": _("Only once: it turns itself off after its next run"),
        }
        help_texts = {
            "name": "",
            "task": "",
            "enabled": "",
            "description": "",
            "queue": _("Empty: the task's own queue. A worker must listen to it."),
            "exchange": _("Empty: the queue's own."),
            "routing_key": _("Empty: the queue's own."),
            "priority": _("0 to 255; on Redis 0 is the most urgent. Empty: the task's own."),
            "expire_seconds": _("A message that waited longer is not run. Empty: it waits for ever."),
            "one_off": "",
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
        self.initial = {**self.initial, **initial(self.instance), **(kwargs.get("initial") or {})}
        if not self.may_enable and "enabled" in self.fields:
            self.fields["enabled"].disabled = True
            self.initial["enabled"] = bool(self.instance.pk and self.instance.enabled)
        self.add_parameter_fields()
        self.initial["seen"] = digest(spec_of(self.instance)) if self.instance.pk else ""

    def clean_expire_seconds(self) -> int | None:
        """At least one second: beat takes 0 for none."""
        seconds: int | None = self.cleaned_data["expire_seconds"]
        if seconds == 0:
            raise forms.ValidationError(_("At least 1. Leave it empty for messages that never expire."))
        return seconds

    def clean_headers(self) -> dict[str, Any]:
        """None of Celery's own: the message would be of another task."""
        headers: dict[str, Any] = self.cleaned_data["headers"]
        if taken := RESERVED & headers.keys():
            raise forms.ValidationError(str(refused_headers(taken)))
        return headers

    def clean(self) -> dict[str, Any]:
        """The timing and the call, each checked as a whole."""
        data: dict[str, Any] = super().clean() or self.cleaned_data
        zone = self._read(lambda: due.parse_zone(data["timezone"])) if data.get("timezone") else None
        if zone:
            self.timing = self._read(lambda: self._timing(data, zone))
            self._place(data, zone)
            data["one_off"] = bool(data.get("one_off")) or isinstance(self.timing, due.Once)
        self._check_call(data)
        self._check_seen(data)
        self.read_policy(self.instance, data)
        for field in ("args", "kwargs", "headers"):
            if field in data:
                self._keep_json(field, data[field])
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

    @property
    def unknown(self) -> bool:
        """Whether "schedule it anyway" is worth showing."""
        return bool(self["anyway"].value() or (self.is_bound and {"task", "queue"} & self.errors.keys()))

    def _read(self, read: Callable[[], T]) -> T | None:
        try:
            return read()
        except (due.BadTiming, calls.BadCall) as problem:
            hidden = problem.field in {"args", "kwargs"} and self.cleaned_data.get("arguments") == "form"
            self.add_error("arguments" if hidden else problem.field, str(problem))
            return None

    def _check_call(self, data: dict[str, Any]) -> None:
        known = data.get("task") in calls.known_tasks()
        if data.get("task") and not known and not data["anyway"]:
            self._read(lambda: calls.check_task(data["task"]))
        self.read_parameters(data)
        if known and {"args", "kwargs"} <= data.keys():
            self._read(lambda: self._fit(data["task"], data["args"], data["kwargs"]))
        queue = data.get("queue")
        # A queue that is saved already may be short of workers for a while; the edit is of something else.
        if queue and queue != self.initial.get("queue") and not data["anyway"]:
            self._read(lambda: calls.check_queue(queue))

    def _check_seen(self, data: dict[str, Any]) -> None:
        """Two people who edit at once: the second is told, and may insist by saving again."""
        if data.get("seen") and data["seen"] != self.initial["seen"]:
            again = cast("Any", self.data).copy()
            again["seen"] = self.initial["seen"]
            self.data = again
            self.add_error(None, _("Somebody changed it while you had it open; its history says what. Save again to make yours count."))  # fmt: skip

    def _fit(self, *call: Any) -> None:
        calls.check_call(*call)
        check_types(*call)

    def _keep_json(self, field: str, value: Any) -> None:
        """Into the instance; text that means the same is left as it was written."""
        try:
            same = json.loads(getattr(self.instance, field) or "null") == value
        except ValueError:
            same = False
        if not same:
            setattr(self.instance, field, json.dumps(value, ensure_ascii=False))

    def _timing(self, data: dict[str, Any], zone: ZoneInfo) -> due.Timing | None:
        match data.get("kind"):
            case "cron" if "cron" in data:
                return due.Cron.parse(data["cron"], zone)
            case "every" if {"every", "period"} <= data.keys():
                if data["every"] is None:
                    raise due.BadTiming("every", gettext("Say every how many."))
                if not data["period"]:
                    raise due.BadTiming("period", gettext("Seconds, minutes, hours or days?"))
                return due.Every.parse(data["every"], data["period"])
            case "once" if "at" in data:
                stored = self.instance.clocked and self.instance.clocked.clocked_time
                return self._once(self._moment("at", stored, zone))
            case "solar" if {"event", "latitude", "longitude"} <= data.keys():
                for place in ("latitude", "longitude"):
                    if data[place] is None:
                        raise due.BadTiming(place, gettext("Say where."))
                return due.Solar(
                    event=data["event"], latitude=float(data["latitude"]), longitude=float(data["longitude"])
                )
        return None

    def _once(self, at: datetime | None) -> due.Once:
        if at is None:
            raise due.BadTiming("at", gettext("Say when."))
        unchanged = bool(self.instance.clocked and self.instance.clocked.clocked_time == at)
        excused = not self.cleaned_data.get("enabled") and (unchanged or self.past_when_off)
        if at <= timezone.now() and not excused:
            raise due.BadTiming("at", gettext("This moment has passed."))
        return due.Once(at=at)

    def _moment(self, field: str, stored: datetime | None, zone: ZoneInfo) -> datetime | None:
        """What was typed, on the clocks of `zone`. A picker has no parts of a second, and no word for the second of two 02:30."""
        value: datetime | None = self.cleaned_data[field]
        if value is None:
            return None
        if stored and self.initial.get(field) == value and str(zone) == self.initial["timezone"]:
            return stored.astimezone(zone)
        return value.astimezone(zone) if value.tzinfo else value.replace(tzinfo=zone)

    def _place(self, data: dict[str, Any], zone: ZoneInfo) -> None:
        schedule = self.instance
        if self.timing:
            edit.place(schedule, self.timing)
        if not {"start", "end"} <= data.keys():
            return
        start, end = self._moment("start", schedule.start_time, zone), self._moment("end", schedule.expires, zone)
        ended = schedule.expires
        if start and isinstance(self.timing, due.Once) and start > self.timing.at:
            self.add_error("start", _("It starts after its only moment, so it would never run."))
        if end and data.get("expire_seconds"):
            self.add_error("expire_seconds", _("django-celery-beat keeps one of the two: an end date, or this."))
        schedule.start_time, schedule.expires = start, end
        if end and data.get("enabled") and self.timing and not self.errors:
            self._check_end(end, changed=end != ended)

    def _check_end(self, end: datetime, *, changed: bool) -> None:
        if end <= timezone.now():
            self.add_error("end", _("This moment has passed. Choose a later one, or turn the schedule off."))
        elif changed and not any(islice(edit.as_edited(self.instance).next_runs(), 1)):
            self.add_error("end", _("It ends before its next run, so it would never run."))
