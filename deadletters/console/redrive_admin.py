"""Redrives: the list, the form that starts one, and the page on which it is watched, paused and cancelled."""

from typing import Any

from django.contrib import admin, messages  # noqa: TID251
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict  # noqa: TID251
from django.shortcuts import get_object_or_404  # noqa: TID251
from django.template.loader import render_to_string
from django.urls import URLPattern, path, reverse
from django.utils.decorators import method_decorator
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from deadletters.console.dialog import Dialog, asked, dialog_of
from deadletters.console.doors import REFUSALS, by, do, origin, require, written
from deadletters.console.listing import BigTableAdmin, TooBroad, age_filter, patience
from deadletters.console.redrive_page import page_of
from deadletters.models import Redrive
from deadletters.redrive import redrive as verbs
from deadletters.redrive import tend
from deadletters.selection import Selection


@admin.register(Redrive)
class RedriveAdmin(BigTableAdmin):
    """Nothing can be edited; a redrive is started, paused, resumed and cancelled."""

    list_display = ("name", "which", "state_chip", "progress", "who", "started")
    list_display_links = ("name",)
    list_filter = ("state", age_filter("created_at"))
    actions = None
    keyset_field = "created_at"

    def has_start_permission(self, request: HttpRequest) -> bool:
        """May replay many, and hold or end what others started."""
        return request.user.has_perm("deadletters.start_redrive") and request.user.has_perm(
            "deadletters.view_deadletter"
        )

    # --- List --------------------------------------------------------------------------------------------------------

    def get_queryset(self, request: HttpRequest) -> QuerySet[Redrive]:
        return super().get_queryset(request)

    @admin.display(description=gettext_lazy("Redrive"))
    def name(self, redrive: Redrive) -> str:
        """Its number."""
        return f"#{redrive.pk}"

    @admin.display(description=gettext_lazy("Letters"))
    def which(self, redrive: Redrive) -> SafeString:
        """The filter in words, and the reason."""
        words = Selection.from_json(redrive.selection).in_words()
        return format_html(
            '<span class="o-cut" title="{}">{}</span> <span class="o-quiet">{}</span>',
            words,
            words,
            redrive.reason[:120],
        )

    @admin.display(description=gettext_lazy("State"))
    def state_chip(self, redrive: Redrive) -> SafeString:
        """Shape and word."""
        return format_html('<span class="o-chip" data-state="{}">{}</span>', redrive.state, redrive.get_state_display())

    @admin.display(description=gettext_lazy("Progress"))
    def progress(self, redrive: Redrive) -> str:
        """How many are sent, and what became of them."""
        said = _("%(sent)s of %(total)s sent, %(succeeded)s succeeded, %(died)s died again")
        numbers = {name: f"{getattr(redrive, name):,}" for name in ("sent", "total", "succeeded", "died")}
        return said % numbers

    @admin.display(description=gettext_lazy("Started"))
    def started(self, redrive: Redrive) -> SafeString:
        """How long ago, and when."""
        return render_to_string("_ago.html", {"at": redrive.created_at})

    # --- Pages -------------------------------------------------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        def named(route: str, view: Any, name: str) -> URLPattern:
            found: URLPattern = path(route, self.admin_site.admin_view(view), name=f"deadletters_redrive_{name}")
            return found

        return [
            named("new/", require_http_methods(["GET", "HEAD", "POST"])(self.new_view), "new"),
            named("<int:pk>/progress/", require_safe(self.progress_view), "progress"),
            named("<int:pk>/<str:act>/act/", require_POST(self.act_view), "act"),
            *super().get_urls(),
        ]

    @method_decorator(require_safe)
    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """One redrive, live."""
        require(self.has_view_permission(request))
        redrive = get_object_or_404(Redrive, pk=object_id if object_id.isdecimal() else 0)
        context = {"page": page_of(redrive), "may_act": self.has_start_permission(request)}
        return self.page(request, "deadletters/redrive.html", str(redrive), **context)

    def progress_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """The moving part of the page."""
        require(self.has_view_permission(request))
        page = page_of(get_object_or_404(Redrive, pk=pk))
        context = {"page": page, "may_act": self.has_start_permission(request)}
        answer = HttpResponse(render_to_string("deadletters/_redrive.html", context, request))
        if not page.moving:
            answer.headers["X-Poll-Stop"] = "1"
        return answer

    def new_view(self, request: HttpRequest) -> HttpResponse:
        """Ask how: the filter in words, a dry run, rate, canary, when to stop, and why."""
        require(self.has_start_permission(request))
        given: QueryDict = request.POST if request.method == "POST" else request.GET
        try:
            selection, upto = asked(given)
            if request.method == "POST" and "reason" in given:
                try:
                    return self._start(request, selection, upto)
                except REFUSALS as refusal:
                    messages.warning(request, str(refusal))
            with patience():
                dialog = dialog_of(selection, upto, request.POST)
        except TooBroad:
            return self.too_broad(request)
        except REFUSALS as refusal:  # there is nothing to ask about
            messages.warning(request, str(refusal))
            return HttpResponseRedirect(reverse("admin:deadletters_deadletter_changelist"))
        return self._ask(request, dialog)

    def _ask(self, request: HttpRequest, dialog: Dialog) -> HttpResponse:
        if request.headers.get("X-Fragment"):
            return HttpResponse(render_to_string("deadletters/_redrive_new.html", {"dialog": dialog}, request))
        return self.page(request, "deadletters/redrive_new.html", _("Replay dead letters"), dialog=dialog)

    def _start(self, request: HttpRequest, selection: Selection, upto: int | None) -> HttpResponse:
        redrive = verbs.start(
            selection,
            by=by(request),
            reason=written(request),
            conditions=verbs.Conditions.parse(
                request.POST.get("rate"), request.POST.get("canary"), request.POST.get("stop_above")
            ),
            origin=origin(request),
            upto=upto,
        )
        tend.launch(redrive)
        return HttpResponseRedirect(reverse("admin:deadletters_redrive_change", args=[redrive.pk]))

    def act_view(self, request: HttpRequest, pk: int, act: str) -> HttpResponse:
        """Pause, resume, cancel."""
        require(self.has_start_permission(request))
        redrive = get_object_or_404(Redrive, pk=pk)
        acts = {
            "pause": (verbs.pause, _("It is paused: nothing more is sent.")),
            "resume": (tend.resume, _("It goes on.")),
            "cancel": (verbs.cancel, _("It is cancelled: what was not sent stays open.")),
        }
        require(act in acts)
        verb, said = acts[act]
        return do(request, lambda: verb(redrive, by=by(request), origin=origin(request)), said)
