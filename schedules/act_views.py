"""What a person does to a schedule besides editing it: run now, enable, disable, pause, resume. Each is one POST that calls one verb."""

from collections.abc import Callable
from functools import partial
from typing import Any, cast

from django import forms
from django.contrib import admin, messages  # noqa: TID251  (the admin is a door)
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse  # noqa: TID251  (the admin is a door)
from django.shortcuts import get_object_or_404, redirect  # noqa: TID251
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.http import require_POST

from schedules import edit, pause
from schedules.fields import LocalDateTime
from schedules.models import Schedule
from schedules.run_now import NotRun, run_now


class PauseForm(forms.Form):
    """Why, and until when."""

    reason = forms.CharField(label=gettext_lazy("Why"), max_length=500)
    until = LocalDateTime(label=gettext_lazy("Until"), help_text=gettext_lazy("Empty: until somebody resumes it."))

    def clean_until(self) -> Any:
        """Some time to come, on the clocks of the schedule (in `initial`)."""
        until = self.cleaned_data["until"]
        if until and not until.tzinfo:
            until = until.replace(tzinfo=self.initial["zone"])
        if until and until <= timezone.now():
            raise forms.ValidationError(_("This moment has passed."))
        return until


class ActViews:
    """The acts, and who may do them. For a ModelAdmin of Schedule."""

    admin_site: admin.AdminSite

    def get_urls(self) -> list[URLPattern]:
        """A page for each act, POST only."""

        def act(name: str, view: Callable[..., HttpResponse]) -> URLPattern:
            view = require_POST(self.admin_site.admin_view(view))
            return path(f"<int:pk>/{name}/", view, name=f"schedules_schedule_{name}")

        return [
            act("run", self.run_view),
            act("enable", self.enable_view),
            act("disable", self.disable_view),
            act("pause", self.pause_view),
            act("resume", self.resume_view),
            *super().get_urls(),  # type: ignore[misc]  # the ModelAdmin's
        ]

    # --- Who may -----------------------------------------------------------------------------------------------------

    def has_run_permission(self, request: HttpRequest) -> bool:
        """Whether this person may run schedules now."""
        return request.user.has_perm("schedules.run_schedule")

    def has_enable_permission(self, request: HttpRequest) -> bool:
        """Whether this person may turn schedules on and off, and pause them."""
        return request.user.has_perm("schedules.enable_schedule")

    def may(self, request: HttpRequest) -> dict[str, Any]:
        """For the templates: nobody sees a button that would refuse them."""
        return {
            "may_run": self.has_run_permission(request),
            "may_enable": self.has_enable_permission(request),
            "may_see_letters": request.user.has_perm("deadletters.view_deadletter"),
        }

    # --- Acts on one -------------------------------------------------------------------------------------------------

    def run_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Run it now, once."""
        schedule = self._allowed(pk, allowed=self.has_run_permission(request))
        return self._do(request, partial(run_now, schedule), _("“%(name)s” was sent as task %(result)s."), schedule)

    def enable_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Turn it on."""
        schedule = self._allowed(pk, allowed=self.has_enable_permission(request))
        return self._do(request, partial(edit.switch, schedule, on=True), _("“%(name)s” is on."), schedule)

    def disable_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Turn it off."""
        schedule = self._allowed(pk, allowed=self.has_enable_permission(request))
        return self._do(request, partial(edit.switch, schedule, on=False), _("“%(name)s” is off."), schedule)

    def pause_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Pause it, for a reason and perhaps until a moment."""
        schedule = self._allowed(pk, allowed=self.has_enable_permission(request))
        form = self.pause_form(schedule, request.POST)
        if not form.is_valid():
            for name, errors in form.errors.items():
                facts = {"field": form[name].label, "why": " ".join(map(str, errors))}
                messages.error(request, _("It was not paused. %(field)s: %(why)s") % facts)
            return _back(request)
        return self._do(
            request, partial(pause.pause, schedule, **form.cleaned_data), _("“%(name)s” is paused."), schedule
        )

    def resume_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """End its pause."""
        schedule = self._allowed(pk, allowed=self.has_enable_permission(request))
        return self._do(request, partial(pause.resume, schedule), _("“%(name)s” goes on."), schedule)

    def pause_form(self, schedule: Schedule, data: Any = None) -> PauseForm:
        """Filled in with `data`, or empty."""
        return PauseForm(data, initial={"zone": schedule.zone}, auto_id="pause_%s")

    # --- Acts on many ------------------------------------------------------------------------------------------------

    @admin.action(description=gettext_lazy("Enable"), permissions=["enable"])
    def enable_selected(self, request: HttpRequest, queryset: QuerySet[Schedule]) -> None:
        """Turn them on; those that could never run stay off, each with its reason."""
        self._switch_many(request, queryset, on=True)

    @admin.action(description=gettext_lazy("Disable"), permissions=["enable"])
    def disable_selected(self, request: HttpRequest, queryset: QuerySet[Schedule]) -> None:
        """Turn them off."""
        self._switch_many(request, queryset, on=False)

    def _switch_many(self, request: HttpRequest, queryset: QuerySet[Schedule], *, on: bool) -> None:
        changed, refused = edit.switch_many(queryset, on=on, by=cast("User", request.user))
        for refusal in refused[:10]:
            messages.error(request, str(refusal))
        if len(refused) > 10:
            messages.error(request, _("%d more could not be turned on.") % (len(refused) - 10))
        said = (
            ngettext("%d schedule was turned on.", "%d schedules were turned on.", changed)
            if on
            else ngettext("%d schedule was turned off.", "%d schedules were turned off.", changed)
        )
        messages.success(request, said % changed)

    def _allowed(self, pk: int, *, allowed: bool) -> Schedule:
        if not allowed:
            raise PermissionDenied
        return get_object_or_404(Schedule, pk=pk)

    def _do(self, request: HttpRequest, verb: Callable[..., object], said: str, schedule: Schedule) -> HttpResponse:
        try:
            result = verb(by=cast("User", request.user))
        except (NotRun, edit.NotEnabled, pause.NotPaused) as refusal:
            messages.error(request, str(refusal))
        else:
            messages.success(request, said % {"name": schedule.name, "result": result})
        return _back(request)


def _back(request: HttpRequest) -> HttpResponse:
    there = request.POST.get("next", "")
    safe = url_has_allowed_host_and_scheme(there, {request.get_host()}, require_https=request.is_secure())
    return redirect(there if safe else reverse("admin:schedules_schedule_changelist"))
