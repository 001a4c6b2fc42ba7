"""What the ADMINS get by mail: yesterday in figures, and what still waits."""

from datetime import date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from celery import states
from django.conf import settings
from django.db.models import Avg, Count, F, Max, Q
from django.utils import timezone
from django.utils.translation import gettext as _
from django_celery_results.models import TaskResult

from deadletters.console.errors import open_errors
from deadletters.console.listing import count
from deadletters.models import DeadLetter
from monitoring import alerts, deliveries
from monitoring.channels import mail
from monitoring.notice import Notice, one_line
from pipelines.models import Run

LISTED = 5
DIGESTED = 20


def daily(day: date | None = None) -> dict[str, Any]:
    """Mail the figures of `day` (in TIME_ZONE; yesterday by default) to the ADMINS, if there are any, and return them.

    Raises:
        NotDeliveredYet, NotDelivered: the mail server is away, or refused.
    """
    zone = ZoneInfo(settings.TIME_ZONE)
    day = day or timezone.now().astimezone(zone).date() - timedelta(days=1)
    # Midnight to midnight on the wall clock: 23 or 25 hours when the clocks change.
    since = datetime.combine(day, time.min, zone)
    figures = {"day": day.isoformat(), **_figures(since, datetime.combine(day + timedelta(days=1), time.min, zone))}
    if mail.configured():
        deliveries.send(
            "mail",
            Notice(subject=_("Daily report of %s") % day, text=_daily_text(figures), link=settings.SITE_URL + "/"),
        )
    return figures


def digest() -> dict[str, Any]:
    """Mail the open dead letters, grouped by error, to the ADMINS; says nothing when none are open. Returns the figures.

    Raises:
        NotDeliveredYet, NotDelivered: the mail server is away, or refused.
    """
    errors = [
        {
            "open": group.open.number,
            "task": group.task_name,
            "error": one_line(": ".join(filter(None, (group.name, group.message))), 120),
        }
        for group in open_errors(DIGESTED)
    ]
    open_now = count(DeadLetter.objects.open())
    figures = {"open": open_now.number, "errors": errors}
    if errors and mail.configured():
        deliveries.send(
            "mail",
            Notice(
                subject=_("%s open dead letters") % open_now,
                text="\n".join(f"{error['open']:>7}  {error['task'] or '–'}  {error['error']}" for error in errors),
                link=alerts.link("deadletters_deadletter_changelist"),
            ),
        )
    return figures


def _figures(since: datetime, until: datetime) -> dict[str, Any]:
    results = TaskResult.objects.filter(date_done__gte=since, date_done__lt=until)
    died = DeadLetter.objects.filter(died_at__gte=since, died_at__lt=until)
    slowest = (
        results.filter(status=states.SUCCESS, date_started__isnull=False)
        .order_by()
        .values("task_name")
        .annotate(
            runs=Count("pk"),
            average=Avg(F("date_done") - F("date_started")),
            longest=Max(F("date_done") - F("date_started")),
        )
        .order_by("-longest")[:LISTED]
    )
    failures = (
        died.order_by().values("task_name", "exception_type").annotate(deaths=Count("pk")).order_by("-deaths")[:LISTED]
    )
    return {
        **results.aggregate(
            succeeded=Count("pk", filter=Q(status=states.SUCCESS)), failed=Count("pk", filter=Q(status=states.FAILURE))
        ),
        "runs": Run.objects.filter(created_at__gte=since, created_at__lt=until).count(),
        "dead_letters": died.count(),
        "open": count(DeadLetter.objects.open()).number,
        "failures": [
            {"task": row["task_name"], "error": row["exception_type"], "deaths": row["deaths"]} for row in failures
        ],
        "slowest": [
            {
                "task": row["task_name"] or "",
                "runs": row["runs"],
                "average_seconds": round(row["average"].total_seconds(), 3),
                "longest_seconds": round(row["longest"].total_seconds(), 3),
            }
            for row in slowest
        ],
    }


def _daily_text(figures: dict[str, Any]) -> str:
    lines = [
        _("Pipeline runs: %d") % figures["runs"],
        _("Tasks: %(succeeded)d succeeded, %(failed)d failed") % figures,
        _("Dead letters: %(dead_letters)d new, %(open)d open now") % figures,
    ]
    if figures["failures"]:
        lines += ["", _("Most deaths:")]
        lines += [f"{row['deaths']:>7}  {row['task'] or '–'}  {row['error']}" for row in figures["failures"]]
    if figures["slowest"]:
        lines += ["", _("Slowest tasks (longest, average, how often):")]
        lines += [
            f"{row['longest_seconds']:>9.2f} s {row['average_seconds']:>9.2f} s {row['runs']:>7}  {row['task']}"
            for row in figures["slowest"]
        ]
    return "\n".join(lines)
