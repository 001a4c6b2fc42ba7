"""The pages of this room: the dashboard and the scrape."""

import secrets
from datetime import timedelta
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.contrib import admin
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.http import HttpRequest, HttpResponse  # noqa: TID251  (a door)
from django.shortcuts import render  # noqa: TID251  (a door)
from django.urls import NoReverseMatch, reverse
from django.utils.cache import patch_vary_headers
from django.utils.timezone import localtime
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import conditional_page, require_safe
from prometheus_client import CONTENT_TYPE_LATEST

from deadletters.sparkline import sparkline
from monitoring import charts, metrics, tiles
from monitoring.dashboard import Figures, figures
from pipelines.states import LABELS

# Tile -> the list behind it: permission, URL name, query.
LISTS = {
    "open": ("deadletters.view_deadletter", "admin:deadletters_deadletter_changelist", {"state": "open"}),
    "oldest": ("deadletters.view_deadletter", "admin:deadletters_deadletter_changelist", {"state": "open"}),
    "failed": (
        "django_celery_results.view_taskresult",
        "admin:django_celery_results_taskresult_changelist",
        {"status__exact": "FAILURE"},
    ),
    "results": ("django_celery_results.view_taskresult", "admin:django_celery_results_taskresult_changelist", {}),
    "start": ("pipelines.start_run", "admin:pipelines_run_add", {}),
    "schedules": ("schedules.view_schedule", "admin:schedules_schedule_changelist", {}),
}


@require_safe
@conditional_page
def dashboard(request: HttpRequest) -> HttpResponse:
    """The first screen; with the header X-Fragment only its changing part, for the poller."""
    context = {**admin.site.each_context(request), "title": _("Dashboard"), **_shown(figures(), request.user)}
    fragment = "X-Fragment" in request.headers
    response = render(request, "monitoring/_dashboard.html" if fragment else "monitoring/dashboard.html", context)
    patch_vary_headers(response, ["X-Fragment"])
    return response


@require_safe
@never_cache
def scrape(request: HttpRequest) -> HttpResponse:
    """Prometheus' text, for whoever has METRICS_TOKEN; without one, for this machine."""
    if not settings.METRICS_TOKEN:
        if not _from_this_machine(request):
            return HttpResponse(
                "Set METRICS_TOKEN to read this from elsewhere.\n", status=403, content_type="text/plain"
            )
    elif not secrets.compare_digest(
        request.headers.get("Authorization", "").encode(), f"Bearer {settings.METRICS_TOKEN}".encode()
    ):
        refusal = HttpResponse(
            "Send the METRICS_TOKEN: Authorization: Bearer …\n", status=401, content_type="text/plain"
        )
        refusal.headers["WWW-Authenticate"] = "Bearer"
        return refusal
    return HttpResponse(metrics.text(), content_type=CONTENT_TYPE_LATEST)


def _from_this_machine(request: HttpRequest) -> bool:
    # A proxy on this machine calls from loopback too, on behalf of anybody.
    if any(header in request.headers for header in ("X-Forwarded-For", "Forwarded", "X-Real-Ip")):
        return False
    try:
        return ip_address(request.META.get("REMOTE_ADDR", "")).is_loopback
    except ValueError:
        return False  # a Unix socket has no address; a proxy is behind it


def _shown(read: Figures, user: AbstractBaseUser | AnonymousUser) -> dict[str, Any]:
    may = user.has_perm  # type: ignore[union-attr]  # every user model of Django's admin has it
    bins = [(localtime(bin_.start).strftime("%H:%M"), bin_.succeeded, bin_.failed) for bin_ in read.bins]
    silent = read.workers.silent if read.workers else ()
    return {
        "figures": read,
        "tiles": [
            (tile, _list(tile.page) if tile.page in LISTS and may(LISTS[tile.page][0]) else "")
            for tile in tiles.tiles(read)
        ],
        "troubles": tiles.troubles(read),
        "charts": [("o-wide", charts.bars(bins)), ("o-narrow", charts.bars(_hours(bins), width=350, left=34))],
        "bins": bins[::-1],
        "backing_up": tiles.BACKING_UP,
        "silent": [(name, tiles.age(timedelta(seconds=seconds))) for name, seconds in silent],
        "errors": [(error, sparkline(error.hourly)) for error in read.errors]
        if may("deadletters.view_deadletter")
        else None,
        "runs": [(run, progress, LABELS[progress.overall]) for run, progress in read.runs],
        "start_url": _list("start") if may("pipelines.start_run") else "",
    }


def _hours(bins: list[tuple[str, int, int]]) -> list[tuple[str, int, int]]:
    """Half as many bars, for a phone."""
    return [
        (first[0], first[1] + second[1], first[2] + second[2])
        for first, second in zip(bins[::2], bins[1::2], strict=True)
    ]


def _list(page: str) -> str:
    _permission, name, query = LISTS[page]
    try:
        return reverse(name) + (f"?{urlencode(query)}" if query else "")
    except NoReverseMatch:
        return ""
