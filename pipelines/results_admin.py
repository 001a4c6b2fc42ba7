"""Results: what every task returned, read-only and quick, in the place of django-celery-results' own screens."""

import contextlib
import json
from typing import Any

from django.contrib import admin, messages  # noqa: TID251
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse  # noqa: TID251
from django.shortcuts import get_object_or_404  # noqa: TID251
from django.template.loader import render_to_string
from django.utils.decorators import method_decorator
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_safe
from django_celery_results.models import GroupResult, TaskResult

from deadletters.console import traceback
from deadletters.console.listing import BigTableAdmin, age_filter, value_filter
from deadletters.console.names import breakable
from deadletters.distinct import distinct_values
from deadletters.envelope import clean
from deadletters.models import DeadLetter
from deadletters.search import SHORTEST, is_uuid
from deadletters.secrets.redact import redactor
from deadletters.secrets.reprs import masked_reprs
from pipelines.links import run_url
from pipelines.words import as_json, duration

admin.site.unregister(TaskResult)
admin.site.unregister(GroupResult)  # an id and a JSON tuple: nothing that the run's page does not show better

# Celery's states as people read them.
STATES = {
    "SUCCESS": gettext_lazy("Success"),
    "FAILURE": gettext_lazy("Failure"),
    "STARTED": gettext_lazy("Started"),
    "PENDING": gettext_lazy("Pending"),
    "RECEIVED": gettext_lazy("Received"),
    "RETRY": gettext_lazy("Retry"),
    "REVOKED": gettext_lazy("Revoked"),
    "REJECTED": gettext_lazy("Rejected"),
    "IGNORED": gettext_lazy("Ignored"),
}
# A list shows none of these.
HEAVY = ("result", "traceback", "meta")


@admin.register(TaskResult)
class ResultAdmin(BigTableAdmin):
    """Newest first."""

    list_display = ("task", "arguments", "worker", "took", "state_chip", "when")
    list_display_links = ("task",)
    list_filter = (
        value_filter("status", gettext_lazy("state"), STATES),
        value_filter("task_name", gettext_lazy("task")),
        value_filter("worker", gettext_lazy("worker")),
        age_filter("date_done"),
    )
    search_fields = ("task_id", "task_name")
    search_help_text = gettext_lazy("Task id or task name")
    keyset_field = "date_done"
    actions = None

    @property
    def title(self) -> str:
        return _("Results")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).defer(*HEAVY)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        text = search_term.strip()
        if is_uuid(text):
            return queryset.filter(task_id=text), False
        if text and len(text) < SHORTEST:
            messages.warning(request, _("Search for %(number)s letters or more.") % {"number": SHORTEST})
            return queryset.none(), False
        if not text:
            return queryset, False
        # Some hundred names at most, read off their index: the results themselves are never searched.
        names = [name for name in distinct_values(TaskResult, "task_name") if text.lower() in name.lower()]
        return queryset.filter(task_name__in=names) if names else queryset.filter(task_id=text), False

    @admin.display(description=gettext_lazy("Task"))
    def task(self, result: TaskResult) -> SafeString:
        """Its name, and enough of its id to tell it from its neighbours."""
        name = result.task_name or _("(no task)")
        return format_html('{} <span class="o-mono o-quiet">{}</span>', breakable(name), result.task_id[:8])

    @admin.display(description=gettext_lazy("Arguments"))
    def arguments(self, result: TaskResult) -> SafeString:
        """The positional ones, on one line."""
        text, _kwargs = _arguments(result)
        return format_html('<span class="o-cut o-mono o-quiet" title="{}">{}</span>', text[:500], text[:160])

    @admin.display(description=gettext_lazy("Took"))
    def took(self, result: TaskResult) -> str:
        """From its start to its end."""
        return _duration(result)

    @admin.display(description=gettext_lazy("State"))
    def state_chip(self, result: TaskResult) -> SafeString:
        """Shape and word."""
        return format_html('<span class="o-chip" data-state="{}">{}</span>', result.status, _word(result.status))

    @admin.display(description=gettext_lazy("When"))
    def when(self, result: TaskResult) -> SafeString:
        """How long ago its row was last written, and when."""
        return render_to_string("_ago.html", {"at": result.date_done})

    @method_decorator(require_safe)
    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The page of one result."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        result = get_object_or_404(TaskResult, pk=object_id if object_id.isdecimal() else None)
        args, kwargs = _arguments(result)
        raised = redactor().text(result.traceback or "")
        may_see_letter = request.user.has_perm("deadletters.view_deadletter")
        context = {
            "result": result,
            "state": _word(result.status),
            "took": _duration(result),
            "args": args,
            "kwargs": kwargs,
            "returned": _returned(result.result),
            "raised": traceback.parse(raised),
            "raw": traceback.coloured_traceback(raised),
            "letter": DeadLetter.objects.filter(task_id=result.task_id).first() if may_see_letter else None,
            "run_url": run_url(result.task_id),
        }
        return self.page(request, "pipelines/result.html", str(result.task_name or result.task_id), **context)


def _word(status: str) -> str:
    return str(STATES.get(status, status.capitalize()))


def _arguments(result: TaskResult) -> tuple[str, str]:
    """(args, kwargs) as people may see them."""
    return masked_reprs(result.task_name or "", _decoded(result.task_args), _decoded(result.task_kwargs))


def _decoded(stored: str | None) -> str:
    """What a person can read of a column that holds JSON, or the repr of the arguments as a JSON string."""
    try:
        value = json.loads(stored or '""')
    except (ValueError, RecursionError):
        return stored or ""
    return clean(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _returned(stored: str | None) -> SafeString:
    # What another serializer wrote, or what is nested too deeply, is shown as it is.
    with contextlib.suppress(ValueError, RecursionError):
        stored = as_json(redactor().value(json.loads(stored or "null")))
    return traceback.coloured_json(stored or "")


def _duration(result: Any) -> str:
    """A dash for what never started."""
    if not result.date_started or result.status in {"STARTED", "PENDING", "RETRY"}:
        return "–"
    return duration(result.date_done - result.date_started)
