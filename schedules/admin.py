"""The console's door to schedules: the list, the form and the history."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, cast

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse  # noqa: TID251  (the admin is a door)
from django.shortcuts import get_object_or_404, render  # noqa: TID251
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_safe
from django_celery_beat.models import ClockedSchedule, CrontabSchedule, IntervalSchedule, PeriodicTask, SolarSchedule

from schedules import calls, due, edit, trail
from schedules.act_views import ActViews
from schedules.forms import TIMING_FIELDS, ScheduleForm
from schedules.listing import QueueFilter, ScheduleList, TaskFilter, standing, tabs, why_broken
from schedules.models import Schedule
from schedules.preview import Preview, preview
from schedules.recent import recent
from schedules.spec import changes, spec_of
from schedules.typed import initial

# One form for all of it takes their place; theirs has a script that the Content-Security-Policy refuses.
admin.site.unregister([PeriodicTask, CrontabSchedule, IntervalSchedule, SolarSchedule, ClockedSchedule])

OCCURRENCES = 30  # on the page of one schedule


@admin.register(Schedule)
class ScheduleAdmin(ActViews, admin.ModelAdmin):  # type: ignore[type-arg]  # Django's is no generic at run time
    """List, one form for all kinds of time, history; the acts on a row are in ActViews."""

    form = ScheduleForm
    change_list_template = "schedules/list.html"
    change_form_template = "schedules/form.html"
    fields = ScheduleForm.Meta.fields
    list_display = ("name", "task")
    list_filter = (TaskFilter, QueueFilter)
    list_per_page = 50
    search_fields = ("name", "task")
    search_help_text = gettext_lazy("Name or task")
    sortable_by = ()
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    actions = ("enable_selected", "disable_selected")

    # --- List --------------------------------------------------------------------------------------------------------

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return ScheduleList

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        # Django would let an address ask for every column.
        return lookup in {one.parameter_name for one in self.list_filter}

    def get_queryset(self, request: HttpRequest) -> QuerySet[Schedule]:
        rows = (
            super().get_queryset(request).select_related("crontab", "interval", "clocked", "solar", "policy", "broken")
        )
        return cast("QuerySet[Schedule]", rows)

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        context = {"title": _("Schedules"), **self.may(request), **(extra_context or {})}
        response = super().changelist_view(request, context)
        if isinstance(response, TemplateResponse) and response.context_data and "cl" in response.context_data:
            rows = response.context_data["cl"].result_list
            found = recent(rows, letters=context["may_see_letters"])
            for row in rows:
                row.recent, row.standing, row.why = found[row.pk], standing(row), why_broken(row)
            response.context_data["tabs"] = list(tabs(request.GET))
        return response

    # --- Form --------------------------------------------------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        def page(route: str, view: Any, name: str) -> URLPattern:
            shown: Callable[..., HttpResponse] = require_safe(self.admin_site.admin_view(view))
            return path(route, shown, name=f"schedules_schedule_{name}")

        return [
            page("preview/", self.preview_view, "preview"),
            page("<int:pk>/preview/", self.preview_view, "preview_of"),
            page("parameters/", self.parameters_view, "parameters"),
            page("<int:pk>/parameters/", self.parameters_view, "parameters_of"),
            *super().get_urls(),
        ]

    def get_form(self, request: HttpRequest, obj: Schedule | None = None, change: bool = False, **kwargs: Any) -> Any:  # noqa: FBT001, FBT002
        form: Any = super().get_form(request, obj, change, **kwargs)
        form.may_enable = self.has_enable_permission(request)
        return form

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        """Of the schedule that is cloned, if the address names one; the copy is off until somebody turns it on."""
        like = request.GET.get("like", "")
        if not like.isdecimal():
            return cast("dict[str, Any]", super().get_changeform_initial_data(request))
        original = get_object_or_404(Schedule, pk=like)
        if not self.has_view_permission(request, original):
            raise PermissionDenied
        return initial(original) | {"name": _("%s (copy)") % original.name, "enabled": False}

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        form, obj = context["adminform"].form, kwargs.get("obj")
        context |= {
            **self.may(request),
            "title": obj.name if obj else _("New schedule"),
            "subtitle": None,
            "editable": self.has_add_permission(request) if obj is None else self.has_change_permission(request, obj),
            "tasks": calls.known_tasks(),
            "zones": due.zone_names(),
            "queues": calls.offered_queues(),
            # A fold with a mistake in it, or with something set, is open.
            "more_open": _opened(form, "start", "end", "grace", "jitter", "pause_after_failures", "one_off"),
            "message_open": _opened(form, "queue", "priority", "expire_seconds", "exchange", "routing_key", "headers"),
            "timing_fields": " ".join(TIMING_FIELDS),
            "preview": _preview(form, obj),
        }
        if obj:
            context |= self._about(request, obj, letters=context["may_see_letters"])
        return super().render_change_form(request, context, *args, **kwargs)

    def _about(self, request: HttpRequest, obj: Schedule, *, letters: bool) -> dict[str, Any]:
        """What the page of a saved schedule shows beside its form."""
        before = _moment(request.GET.get("before", ""))
        found = recent([obj], letters=letters, count=OCCURRENCES + 1, before=before)[obj.pk].past
        obj.recent = recent([obj], letters=letters)[obj.pk]
        obj.standing, obj.why = standing(obj), why_broken(obj)
        return {
            "occurrences": found[:OCCURRENCES],
            "earlier": found[OCCURRENCES - 1].due_at if len(found) > OCCURRENCES else None,
            "later": before is not None,
            "sharers": edit.sharers(obj)[:6],
            "pause_form": self.pause_form(obj),
            "facts": changes({}, spec_of(obj) | {"paused": None}),  # a pause is told beside them
        }

    def save_model(self, request: HttpRequest, obj: Schedule, form: Any, change: bool) -> None:  # noqa: FBT001
        edit.save(obj, by=cast("User", request.user))

    def log_addition(self, request: HttpRequest, obj: Schedule, message: Any) -> None:  # type: ignore[override]
        """`edit.save` did, and from what to what."""

    def log_change(self, request: HttpRequest, obj: Schedule, message: Any) -> None:  # type: ignore[override]
        """`edit.save` did, and from what to what."""

    def preview_view(self, request: HttpRequest, pk: int | None = None) -> HttpResponse:
        """The fragment beside the form: words, warning and next runs of what is typed."""
        obj = self._edited(request, pk)
        form = ScheduleForm(request.GET, instance=obj)
        return render(request, "schedules/_runs.html", {"preview": _preview(form, obj)})

    def parameters_view(self, request: HttpRequest, pk: int | None = None) -> HttpResponse:
        """The fragment in the form: a field for each parameter of the task that is typed."""
        obj = self._edited(request, pk)
        task = request.GET.get("task", "")
        same = obj is not None and obj.task == task
        form = ScheduleForm(instance=obj if same else None, initial={"task": task})
        return render(request, "schedules/_parameters.html", {"form": form})

    def _edited(self, request: HttpRequest, pk: int | None) -> Schedule | None:
        obj = get_object_or_404(Schedule, pk=pk) if pk else None
        allowed = self.has_change_permission(request, obj) if obj else self.has_add_permission(request)
        if not allowed:
            raise PermissionDenied
        return obj

    # --- History -----------------------------------------------------------------------------------------------------

    def history_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        """Who did what, and each edit from what to what."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        schedule = get_object_or_404(Schedule, pk=object_id if object_id.isdecimal() else None)
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": _("History of %s") % schedule.name,
            "schedule": schedule,
            "acts": trail.history(schedule),
        }
        return TemplateResponse(request, "schedules/history.html", context)


def _moment(text: str) -> datetime | None:
    """A moment out of an address; None for one that somebody mangled."""
    try:
        moment = datetime.fromisoformat(text.replace(" ", "+"))
    except ValueError:
        return None
    return moment if moment.tzinfo else None


def _opened(form: ScheduleForm, *names: str) -> bool:
    return any(
        name in form.errors or form[name].value() not in {None, "", 0, "0", "{}"}
        for name in names
        if name in form.fields
    )


def _preview(form: ScheduleForm, saved: Schedule | None) -> Preview:
    if not form.is_bound and saved:
        return preview(saved)
    if not form.is_bound:
        form = ScheduleForm({**{name: field.initial for name, field in form.fields.items()}, **form.initial})
    reasons = [str(reason) for field in TIMING_FIELDS for reason in form.errors.get(field, [])]
    return Preview(error=" ".join(reasons)) if reasons else preview(form.instance)
