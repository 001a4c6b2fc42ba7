"""The screens of the runs. Each act is one POST that calls one verb."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

from django.contrib import admin, messages  # noqa: TID251
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect  # noqa: TID251
from django.shortcuts import get_object_or_404, redirect  # noqa: TID251
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.cache import get_conditional_response
from django.utils.crypto import salted_hmac
from django.utils.decorators import method_decorator
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.http import require_POST, require_safe
from kombu.exceptions import OperationalError

from deadletters.console.doors import by, origin
from deadletters.console.narrow import NarrowAdmin
from deadletters.redrive.redrive import NotRedrivable
from pipelines import registry, runs
from pipelines.cancel import NotCancellable, cancel
from pipelines.forms import StartForm
from pipelines.graph import NotACanvas
from pipelines.layout import box_tasks, segments
from pipelines.models import Run
from pipelines.page import RunPage
from pipelines.replay import replay_dead
from pipelines.run_list import PipelineFilter, RunChangeList, find
from pipelines.words import chip, took


@admin.register(Run)
class RunAdmin(NarrowAdmin):
    """List, start form and page of the runs; nothing can be edited, only started, cancelled and replayed."""

    list_display = ("name", "state", "bar", "started", "starter", "took")
    list_display_links = ("name",)
    list_filter = (PipelineFilter, "origin")
    list_select_related = ("started_by",)
    list_per_page = 50
    search_fields = ("pipeline",)
    search_help_text = gettext_lazy("Pipeline, run id or task id")
    sortable_by = ()
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    actions = None

    # --- Who may -----------------------------------------------------------------------------------------------------

    def has_add_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("pipelines.start_run")

    def has_change_permission(self, request: HttpRequest, obj: Run | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Run | None = None) -> bool:
        return False

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        """May cancel runs."""
        return request.user.has_perm("pipelines.cancel_run") and self.has_view_permission(request)

    def has_replay_permission(self, request: HttpRequest) -> bool:
        """May send the dead letters of a run again, all at once."""
        return request.user.has_perm("deadletters.start_redrive") and self.has_view_permission(request)

    # --- List --------------------------------------------------------------------------------------------------------

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return RunChangeList

    def get_queryset(self, request: HttpRequest) -> QuerySet[Run]:
        return super().get_queryset(request).defer("tree", "parameters")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Run], search_term: str
    ) -> tuple[QuerySet[Run], bool]:
        return find(queryset, search_term), False

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        context = {"title": _("Pipeline runs"), "pipelines": registry.all_pipelines()}
        return super().changelist_view(request, {**(extra_context or {}), **context})

    @admin.display(description=gettext_lazy("Pipeline"))
    def name(self, run: Run) -> SafeString:
        """Its pipeline, and enough of its id to tell it from its neighbours."""
        return format_html('{} <span class="o-mono o-quiet">{}</span>', run.pipeline, str(run.pk)[:8])

    @admin.display(description=gettext_lazy("State"))
    def state(self, run: Run) -> SafeString:
        """Shape and word."""
        shown = chip(run.now.overall)  # type: ignore[attr-defined]  # set by RunChangeList
        return format_html('<span class="o-chip" data-state="{}">{}</span>', shown.state, shown.label)

    @admin.display(description=gettext_lazy("Progress"))
    def bar(self, run: Run) -> SafeString:
        """How many of its steps have succeeded."""
        progress = run.now  # type: ignore[attr-defined]  # set by RunChangeList
        parts = [(chip(state, number), x, width) for state, number, x, width in segments(progress.counts, 0, 1000)]
        return render_to_string("pipelines/_list_bar.html", {"progress": progress, "bar": parts})

    @admin.display(description=gettext_lazy("Started"))
    def started(self, run: Run) -> SafeString:
        """How long ago, and when."""
        return render_to_string("_ago.html", {"at": run.created_at})

    @admin.display(description=gettext_lazy("By"))
    def starter(self, run: Run) -> str:
        """Who or what started it."""
        return str(run.started_by or run.get_origin_display())

    @admin.display(description=gettext_lazy("Duration"))
    def took(self, run: Run) -> str:
        """How long it took, or takes so far."""
        return took(run, run.now)  # type: ignore[attr-defined]  # set by RunChangeList

    # --- Start -------------------------------------------------------------------------------------------------------

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Choose a pipeline; fill in its form; start it."""
        self._require(self.has_add_permission(request))
        name = request.GET.get("pipeline", "")
        if not name:
            return self._page(request, "pipelines/choose.html", _("Start a pipeline"), pipelines=registry.all_pipelines())  # fmt: skip
        try:
            pipeline = registry.get(name)
        except registry.UnknownPipeline as refusal:
            messages.error(request, str(refusal))
            return redirect("admin:pipelines_run_add")
        form = StartForm(pipeline, request.POST if request.method == "POST" else None)
        if form.is_valid() and (started := self._start(request, form)):
            return redirect("admin:pipelines_run_change", started.pk)
        title = _("Start %(pipeline)s") % {"pipeline": pipeline.name}
        return self._page(request, "pipelines/start.html", title, form=form, pipeline=pipeline)

    def _start(self, request: HttpRequest, form: StartForm) -> Run | None:
        try:
            return runs.start(form.pipeline.name, form.parameters, by=by(request), origin=Run.Origin.ADMIN)
        except registry.BadParameter as refusal:
            form.refuse(refusal)
        except NotACanvas as refusal:
            form.add_error(None, str(refusal))
        except runs.NotSent as refusal:
            messages.error(request, str(refusal))
            return refusal.run
        return None

    # --- One run -----------------------------------------------------------------------------------------------------

    @method_decorator(require_safe)
    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The page of one run; for the poller its moving part alone."""
        self._require(self.has_view_permission(request))
        run = self._run(object_id)
        page = RunPage(run, **{name: request.GET.get(name, "") for name in ("state", "view", "part")})
        context = {
            "page": page,
            "run": run,
            "may_cancel": self.has_cancel_permission(request),
            "may_replay": self.has_replay_permission(request),
            "may_replay_one": request.user.has_perm("deadletters.replay_deadletter"),
            "may_start": self.has_add_permission(request),
        }
        if "X-Fragment" in request.headers:
            return _fragment(request, "pipelines/_run.html", context, stop=not page.every)
        return self._page(request, "pipelines/run.html", str(run), **context)

    # --- Acts --------------------------------------------------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        def act(route: str, view: Callable[..., HttpResponse], name: str) -> URLPattern:
            return path(route, require_POST(self.admin_site.admin_view(view)), name=f"pipelines_run_{name}")

        return [
            act("<uuid:pk>/cancel/", self.cancel_view, "cancel"),
            act("<uuid:pk>/replay/", self.replay_view, "replay"),
            *super().get_urls(),
        ]

    def cancel_view(self, request: HttpRequest, pk: UUID) -> HttpResponse:
        """Cancel what has not run yet."""
        self._require(self.has_cancel_permission(request))
        run = get_object_or_404(Run, pk=pk)
        try:
            number = cancel(run, by=by(request), origin=origin(request))
        except NotCancellable as refusal:
            messages.warning(request, str(refusal))
        except OperationalError:
            messages.error(request, _("The broker does not answer, so nothing was cancelled. Try again when it does."))
        else:
            said = ngettext("%d step will not run any more.", "%d steps will not run any more.", number)
            messages.success(request, said % number)
        return _to(run)

    def replay_view(self, request: HttpRequest, pk: UUID) -> HttpResponse:
        """Send the open dead letters of this run again, or those of one box of the graph alone (`node`: its key)."""
        self._require(self.has_replay_permission(request))
        run = get_object_or_404(Run, pk=pk)
        tasks = box_tasks(run.tree, request.POST["node"]) if "node" in request.POST else None
        try:
            redrive = replay_dead(run, by=by(request), origin=origin(request), tasks=tasks)
        except NotRedrivable:
            messages.warning(request, _("No dead letter of this run is open: there is nothing to replay."))
            return _to(run)
        said = ngettext("%d dead letter is sent again", "%d dead letters are sent again", redrive.total) % redrive.total
        url = reverse("admin:deadletters_redrive_change", args=[redrive.pk])
        messages.success(request, format_html('{} (<a href="{}">{}</a>).', said, url, redrive))
        return _to(run)

    # --- How pages answer --------------------------------------------------------------------------------------------

    @staticmethod
    def _require(allowed: bool) -> None:  # noqa: FBT001  (the question's answer is the argument)
        if not allowed:
            raise PermissionDenied

    @staticmethod
    def _run(object_id: str) -> Run:
        try:
            pk = UUID(object_id)
        except ValueError:
            pk = UUID(int=0)  # no run has it: a 404 like any other
        return get_object_or_404(Run.objects.select_related("started_by", "cancelled_by"), pk=pk)

    def _page(self, request: HttpRequest, template: str, title: str, **context: Any) -> TemplateResponse:
        common = {**self.admin_site.each_context(request), "opts": self.opts, "title": title}
        return TemplateResponse(request, template, {**common, **context})


def _fragment(request: HttpRequest, template: str, context: dict[str, Any], *, stop: bool) -> HttpResponse:
    """A part of a page with an ETag, and the poller's stop sign when nothing can change any more."""
    html = render_to_string(template, context, request)
    etag = f'"{salted_hmac("pipelines.run", html).hexdigest()[:24]}"'
    fresh = HttpResponse(html, headers={"Cache-Control": "no-store"})
    response: HttpResponseBase = get_conditional_response(request, etag=etag, response=fresh) or fresh
    response.headers["ETag"] = etag
    if stop:
        response.headers["X-Poll-Stop"] = "1"
    assert isinstance(response, HttpResponse)
    return response


def _to(run: Run) -> HttpResponseRedirect:
    response = redirect("admin:pipelines_run_change", run.pk)
    assert isinstance(response, HttpResponseRedirect)
    return response


from pipelines import results_admin  # noqa: E402, F401  (the other screens of this room)
