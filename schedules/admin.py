"""The console's door to schedules."""

from collections.abc import Callable
from typing import Any, cast

from django.contrib import admin, messages  # noqa: TID251  (the admin is a door)
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db.models import OuterRef, QuerySet, Subquery
from django.db.models.functions import JSONObject
from django.http import HttpRequest, HttpResponse  # noqa: TID251  (the admin is a door)
from django.shortcuts import get_object_or_404, redirect, render  # noqa: TID251
from django.urls import URLPattern, path, reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_POST, require_safe
from django_celery_beat.models import ClockedSchedule, CrontabSchedule, IntervalSchedule, PeriodicTask, SolarSchedule
from django_celery_results.models import TaskResult

from schedules import calls, due, edit
from schedules.forms import TIMING_FIELDS, ScheduleForm
from schedules.models import Schedule
from schedules.preview import Preview, preview
from schedules.run_now import NotRun, run_now

# One form for all of it takes their place; theirs has a script that the Content-Security-Policy refuses.
admin.site.unregister([PeriodicTask, CrontabSchedule, IntervalSchedule, SolarSchedule, ClockedSchedule])


class StateFilter(admin.SimpleListFilter):
    """On or off."""

    title = gettext_lazy("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("on", _("On")), ("off", _("Off"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Schedule]) -> QuerySet[Schedule]:
        return queryset.filter(enabled=self.value() == "on") if self.value() else queryset


@admin.register(Schedule)
class ScheduleAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # Django's is no generic at run time
    """List, one form, and three acts on a row: run now, enable, disable."""

    form = ScheduleForm
    change_list_template = "schedules/list.html"
    change_form_template = "schedules/form.html"
    fields = ScheduleForm.Meta.fields
    list_display = ("name", "task")
    list_filter = (StateFilter,)
    list_per_page = 50
    search_fields = ("name", "task")
    search_help_text = gettext_lazy("Name or task")
    ordering = ("name",)
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER

    def get_queryset(self, request: HttpRequest) -> QuerySet[Schedule]:
        newest = TaskResult.objects.filter(periodic_task_name=OuterRef("name")).order_by("-pk")
        facts = JSONObject(status="status", at="date_created", pk="pk")
        rows = super().get_queryset(request).select_related("crontab", "interval", "clocked", "solar")
        rows = rows.annotate(outcome=Subquery(newest.values(facts=facts)[:1]))
        return cast("QuerySet[Schedule]", rows)

    def get_urls(self) -> list[URLPattern]:
        def act(name: str, view: Callable[..., HttpResponse]) -> URLPattern:
            view = require_POST(self.admin_site.admin_view(view))
            return path(f"<int:pk>/{name}/", view, name=f"schedules_schedule_{name}")

        preview = require_safe(self.admin_site.admin_view(self.preview_view))
        return [
            act("run", self.run_view),
            act("enable", self.enable_view),
            act("disable", self.disable_view),
            path("preview/", preview, name="schedules_schedule_preview"),
            path("<int:pk>/preview/", preview, name="schedules_schedule_preview_of"),
            *super().get_urls(),
        ]

    def has_run_permission(self, request: HttpRequest) -> bool:
        """Whether this person may run schedules now."""
        return request.user.has_perm("schedules.run_schedule")

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        context = {
            "title": _("Schedules"),
            "may_run": self.has_run_permission(request),
            "may_change": self.has_change_permission(request),
            **(extra_context or {}),
        }
        return super().changelist_view(request, context)

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        form, obj = context["adminform"].form, kwargs.get("obj")
        context |= {
            "title": obj.name if obj else _("New schedule"),
            "subtitle": None,
            "may_run": self.has_run_permission(request),
            "editable": self.has_add_permission(request) if obj is None else self.has_change_permission(request, obj),
            "tasks": calls.known_tasks(),
            "zones": due.zone_names(),
            "queues": calls.known_queues(),
            "timing_fields": " ".join(TIMING_FIELDS),
            "preview": _preview(form, obj),
        }
        return super().render_change_form(request, context, *args, **kwargs)

    def save_model(self, request: HttpRequest, obj: Schedule, form: Any, change: bool) -> None:  # noqa: FBT001
        edit.save(obj)

    def preview_view(self, request: HttpRequest, pk: int | None = None) -> HttpResponse:
        """The fragment beside the form: words, warning and next runs of what is typed."""
        obj = get_object_or_404(Schedule, pk=pk) if pk else None
        allowed = self.has_change_permission(request, obj) if obj else self.has_add_permission(request)
        if not allowed:
            raise PermissionDenied
        form = ScheduleForm(request.GET, instance=obj)
        return render(request, "schedules/_runs.html", {"preview": _preview(form, obj)})

    def run_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Run it now, once."""
        if not self.has_run_permission(request):
            raise PermissionDenied
        schedule = get_object_or_404(Schedule, pk=pk)
        try:
            task_id = run_now(schedule, by=cast("User", request.user))
        except NotRun as refusal:
            self.message_user(request, str(refusal), messages.ERROR)
        else:
            said = _("“%(name)s” was sent as task %(id)s.") % {"name": schedule.name, "id": task_id}
            self.message_user(request, said, messages.SUCCESS)
        return _back(request)

    def enable_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Turn it on."""
        return self._switch(request, pk, on=True)

    def disable_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Turn it off."""
        return self._switch(request, pk, on=False)

    def _switch(self, request: HttpRequest, pk: int, *, on: bool) -> HttpResponse:
        schedule = get_object_or_404(Schedule, pk=pk)
        if not self.has_change_permission(request, schedule):
            raise PermissionDenied
        try:
            edit.switch(schedule, on=on, by=cast("User", request.user))
        except edit.NotEnabled as refusal:
            self.message_user(request, str(refusal), messages.ERROR)
        else:
            said = _("“%s” is on.") if on else _("“%s” is off.")
            self.message_user(request, said % schedule.name, messages.SUCCESS)
        return _back(request)


def _preview(form: ScheduleForm, saved: Schedule | None) -> Preview:
    if not form.is_bound and saved:
        return preview(saved)
    if not form.is_bound:
        form = ScheduleForm({**{name: field.initial for name, field in form.fields.items()}, **form.initial})
    reasons = [str(reason) for field in TIMING_FIELDS for reason in form.errors.get(field, [])]
    return Preview(error=" ".join(reasons)) if reasons else preview(form.instance)


def _back(request: HttpRequest) -> HttpResponse:
    there = request.POST.get("next", "")
    safe = url_has_allowed_host_and_scheme(there, {request.get_host()}, require_https=request.is_secure())
    return redirect(there if safe else reverse("admin:schedules_schedule_changelist"))
