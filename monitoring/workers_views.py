"""The screen of workers and queues. Each act is one POST that calls one verb of control.py."""

from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

from django.contrib import admin, messages  # noqa: TID251
from django.contrib.auth.decorators import permission_required
from django.http import HttpRequest, HttpResponse  # noqa: TID251
from django.shortcuts import render  # noqa: TID251
from django.utils.cache import patch_vary_headers
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import conditional_page, require_POST, require_safe

from deadletters.console.doors import back, by, origin, written
from monitoring import control, queues, tiles, workers
from monitoring.broker import BrokerAway
from monitoring.control import Told
from monitoring.queues import Queue
from monitoring.views import queue_row
from monitoring.workers import Workers

may_see = permission_required("monitoring.view_workers", raise_exception=True)
may_control = permission_required("monitoring.control_workers", raise_exception=True)


@require_safe
@may_see
@conditional_page
def screen(request: HttpRequest) -> HttpResponse:
    """Who is alive, what runs there since when, and what waits; with the header X-Fragment only the changing part."""
    context = {**admin.site.each_context(request), "title": _("Workers and queues"), **_shown(request)}
    fragment = "X-Fragment" in request.headers
    response = render(request, "monitoring/_workers.html" if fragment else "monitoring/workers.html", context)
    patch_vary_headers(response, ["X-Fragment"])
    return response


@require_POST
@may_control
def pause_queue(request: HttpRequest) -> HttpResponse:
    """Pause one queue."""
    name = written(request, "queue")

    def pause() -> str:
        told = control.pause_queue(name, by=by(request), reason=written(request), origin=origin(request))
        return _("Queue %s is paused.") % name + _late(told)

    return _act(request, pause)


@require_POST
@may_control
def resume_queue(request: HttpRequest) -> HttpResponse:
    """Resume one queue."""
    name = written(request, "queue")

    def resume() -> str:
        told = control.resume_queue(name, by=by(request), origin=origin(request))
        return _("Queue %s goes on.") % name + _late(told)

    return _act(request, resume)


@require_POST
@may_control
def revoke(request: HttpRequest) -> HttpResponse:
    """Revoke one task; terminate it if it runs and the form says so."""
    task_id, terminate = written(request, "task").strip(), "terminate" in request.POST

    def act() -> str:
        if not task_id:
            raise control.Refused(_("Give the id of the task."))
        control.revoke(task_id, by=by(request), terminate=terminate, origin=origin(request))
        if terminate:
            return _("Task %s is being terminated.") % task_id
        return _("Task %s will not run, if it has not begun.") % task_id

    return _act(request, act)


@require_POST
@may_control
def shut_down(request: HttpRequest) -> HttpResponse:
    """Shut one worker down."""
    name = written(request, "worker")

    def act() -> str:
        control.shut_down(name, by=by(request), origin=origin(request))
        return _("Worker %s finishes what it runs, and then ends.") % name

    return _act(request, act)


def _shown(request: HttpRequest) -> dict[str, Any]:
    team: Workers | None = None
    waiting: list[Queue] | None = None
    with suppress(BrokerAway):
        team, waiting = workers.alive(), queues.queues()
    silent = [(name, tiles.age(timedelta(seconds=passed))) for name, passed in (team.silent if team else ())]
    return {
        "team": team,
        "silent": silent,
        "queues": None if waiting is None else [queue_row(queue, team) for queue in waiting],
        "may_control": request.user.has_perm("monitoring.control_workers"),
    }


def _act(request: HttpRequest, verb: Callable[[], str]) -> HttpResponse:
    try:
        messages.success(request, verb())
    except control.Refused as refusal:
        messages.warning(request, str(refusal))
    except BrokerAway:
        messages.error(request, _("The broker does not answer, so nothing was changed. Try again when it does."))
    return back(request, "monitoring:workers")


def _late(told: Told) -> str:
    if not told.late:
        return ""
    late = ngettext(
        " %(names)s has not confirmed it yet, and will hear it when it looks up.",
        " %(names)s have not confirmed it yet, and will hear it when they look up.",
        len(told.late),
    )
    return late % {"names": ", ".join(told.late)}
