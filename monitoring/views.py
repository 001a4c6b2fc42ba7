"""The pages of this room: the dashboard and the scrape."""

import secrets
from dataclasses import replace
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
from django.utils.formats import date_format
from django.utils.timezone import localtime
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import conditional_page, require_safe
from prometheus_client import CONTENT_TYPE_LATEST

from deadletters.console.sparkline import sparkline
from monitoring import charts, metrics, tiles
from monitoring.dashboard import WINDOWS, Figures, Window, figures
from monitoring.minutes import Bin
from monitoring.queues import Queue
from monitoring.workers import Workers
from pipelines.states import LABELS

RESULTS = "admin:django_celery_results_taskresult_changelist"
# Tile -> the list behind it: permission, URL name, query.
LISTS: dict[str, tuple[str, str, dict[str, str]]] = {
    "open": ("deadletters.view_deadletter", "admin:deadletters_deadletter_changelist", {"state": "open"}),
    "failed": ("django_celery_results.view_taskresult", RESULTS, {"status": "FAILURE", "age": "hour"}),
    "results": ("django_celery_results.view_taskresult", RESULTS, {"age": "hour"}),
    "start": ("pipelines.start_run", "admin:pipelines_run_add", {}),
    "schedules": ("schedules.view_schedule", "admin:schedules_schedule_changelist", {}),
    "oldest": ("deadletters.view_deadletter", "admin:deadletters_deadletter_changelist", {}),
    "workers": ("monitoring.view_workers", "monitoring:workers", {}),
    "queues": ("monitoring.view_workers", "monitoring:workers", {}),
}


@require_safe
@conditional_page
def dashboard(request: HttpRequest) -> HttpResponse:
    """The first screen; with the header X-Fragment only its changing part, for the poller."""
    context = {
        **admin.site.each_context(request),
        "title": _("Dashboard"),
        **_shown(figures(request.GET.get("window", "")), request.user),
    }
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
    bins = [(_label(bin_, read.window), bin_.succeeded, bin_.failed) for bin_ in read.bins]
    silent = read.workers.silent if read.workers else ()
    return {
        "figures": read,
        "tiles": [(tile, _behind(tile, read)) if may(LISTS[tile.page][0]) else (replace(tile, note=""), "") for tile in tiles.tiles(read)],
        "troubles": tiles.troubles(read, may),
        "windows": list(WINDOWS),
        "charts": [("o-wide", charts.bars(bins)), ("o-narrow", charts.bars(_hours(bins), width=350, left=44))],
        "bins": bins[::-1],
        "queues": None if read.queues is None else [queue_row(queue, read.workers) for queue in read.queues],
        "silent": [(name, tiles.age(timedelta(seconds=seconds))) for name, seconds in silent],
        "errors": [(error, sparkline(error.hourly)) for error in read.errors]
        if may("deadletters.view_deadletter")
        else None,
        "runs": [(run, progress, LABELS[progress.overall]) for run, progress in read.runs],
        "start_url": _list("start") if may("pipelines.start_run") else "",
        "workers_url": _list("workers") if may(LISTS["workers"][0]) else "",
        "calm": _calm(read),
    }  # fmt: skip


def queue_row(queue: Queue, workers: Workers | None) -> dict[str, Any]:
    """One line of the queues' table."""
    return {
        "queue": queue,
        "oldest": tiles.age(timedelta(seconds=queue.oldest)) if queue.oldest is not None else "–",
        "consumers": workers.consumers(queue.name) if workers else None,
        "backing_up": queue.waiting >= tiles.BACKING_UP,
    }


def _calm(read: Figures) -> str:
    """The sentence that answers "is anything wrong?" with no; it says so only when everything could be asked."""
    wrong = read.open.number or tiles.troubles(read)  # those that this person is not told of, too
    return "" if wrong else _("All is well: everything answers, and no letter is open.")


def _behind(tile: tiles.Tile, read: Figures) -> str:
    if tile.page == "oldest":
        return reverse("admin:deadletters_deadletter_change", args=[read.oldest.pk]) if read.oldest else ""
    return _list(tile.page) + ("#queues" if tile.page == "queues" else "")


def _label(bin_: Bin, window: Window) -> str:
    at = localtime(bin_.start)
    return date_format(at, _("D H:i")) if window.width > timedelta(hours=1) else at.strftime("%H:%M")


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
