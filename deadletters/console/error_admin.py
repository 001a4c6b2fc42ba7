"""Errors: the list of bugs with open letters, the page of one, and what people say about it."""

from collections.abc import Callable
from typing import Any

from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse  # noqa: TID251
from django.shortcuts import get_object_or_404  # noqa: TID251
from django.urls import URLPattern, path
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe

from deadletters.console.doors import by, do, origin, require, written
from deadletters.console.errors import count_open_errors, error_page, open_errors
from deadletters.console.listing import BigTableAdmin, TooBroad, patience
from deadletters.console.sparkline import sparkline
from deadletters.console.tabs import tabs
from deadletters.models import ErrorGroup
from deadletters.replay import triage

# What the page's buttons post, and what is said then.
_ACTS: dict[str, tuple[Callable[..., object], Any]] = {
    "resolve": (triage.resolve, "The error is resolved. If it comes back, the alert says so."),
    "reopen": (triage.reopen, "The error is open again."),
    "discard": (triage.discard, "The error and its open letters are discarded."),
}


class ErrorViews(BigTableAdmin):
    """The part of the admin that is about errors."""

    def has_triage_permission(self, request: HttpRequest) -> bool:
        """May resolve, reopen, assign and annotate errors."""
        return request.user.has_perm("deadletters.triage_errorgroup") and self.has_view_permission(request)

    def has_bulk_permission(self, request: HttpRequest) -> bool:
        """May replay many."""
        return request.user.has_perm("deadletters.start_redrive") and self.has_view_permission(request)

    def error_urls(self) -> list[URLPattern]:
        """Where they are."""

        def named(route: str, view: Any, name: str) -> URLPattern:
            found: URLPattern = path(route, self.admin_site.admin_view(view), name=f"deadletters_deadletter_{name}")
            return found

        return [
            named("by-error/", self.by_error_view, "by_error"),
            named("error/<str:fingerprint>/", require_safe(self.error_view), "error"),
            named("error/<str:fingerprint>/<str:act>/", require_POST(self.triage_view), "triage"),
        ]

    def by_error_view(self, request: HttpRequest) -> HttpResponse:
        """One line for each bug with open letters."""
        require(self.has_view_permission(request))
        try:
            with patience():
                context = {
                    "groups": [(group, sparkline(group.hourly)) for group in open_errors()],
                    "number": count_open_errors(),
                    "tabs": list(tabs({"state": "none"})),
                    "may_replay": self.has_bulk_permission(request),
                }
        except TooBroad:
            return self.too_broad(request)
        return self.page(request, "deadletters/by_error.html", self.title, **context)

    def error_view(self, request: HttpRequest, fingerprint: str) -> HttpResponse:
        """One bug: its life, its letters, whose it is."""
        require(self.has_view_permission(request))
        group = get_object_or_404(ErrorGroup.objects.select_related("assignee"), pk=fingerprint)
        found = error_page(group)
        context = {
            "group": group,
            "found": found,
            "spark": sparkline(found.hourly),
            "people": User.objects.filter(is_active=True, is_staff=True).order_by("username")[:200],
            "may_triage": self.has_triage_permission(request),
            "may_replay": self.has_bulk_permission(request),
            "may_discard": request.user.has_perm("deadletters.discard_deadletter"),
        }
        return self.page(request, "deadletters/error.html", str(group), **context)

    def triage_view(self, request: HttpRequest, fingerprint: str, act: str) -> HttpResponse:
        """Say something about the error."""
        require(self.has_triage_permission(request))
        group, who, where = get_object_or_404(ErrorGroup, pk=fingerprint), by(request), origin(request)
        if act == "note":
            note = written(request, "note")
            return do(request, lambda: triage.annotate(group, note, by=who, origin=where), _("The note is written."))
        if act == "assign":
            name = written(request, "assignee")
            to = get_object_or_404(User, username=name) if name else None
            said = _("The error is %s's.") % name if to else _("The error is nobody's.")
            return do(request, lambda: triage.assign(group, to, by=who, origin=where), said)
        if act == "discard":
            require(request.user.has_perm("deadletters.discard_deadletter"))
        verb, said = _ACTS.get(act, (None, ""))
        require(verb is not None)
        assert verb is not None
        reason = written(request)
        return do(request, lambda: verb(group, by=who, reason=reason, origin=where), _(said))
