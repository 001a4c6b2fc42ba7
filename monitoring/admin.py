"""The alerts' screen: what was sent to whom, and what is held back."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import F, OuterRef, QuerySet, Subquery
from django.http import HttpRequest, HttpResponse  # noqa: TID251
from django.shortcuts import redirect  # noqa: TID251
from django.template.loader import render_to_string
from django.utils.formats import number_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from deadletters.console.listing import BigTableAdmin, age_filter, value_filter
from deadletters.models import Cause, DeadLetter
from deadletters.search import SHORTEST
from monitoring import deliveries
from monitoring.models import Alert, Delivery

# Errors with deaths that nobody was told of one by one.
HELD_BACK = 10


@admin.register(Delivery)
class DeliveryAdmin(BigTableAdmin):
    """Newest first."""

    list_display = ("state_chip", "what", "channel_name", "to", "held", "when")
    list_display_links = None
    list_filter = (
        value_filter("outcome", gettext_lazy("outcome")),
        value_filter("channel", gettext_lazy("channel")),
        age_filter("at"),
    )
    search_fields = ("subject",)
    search_help_text = gettext_lazy("Task or error")
    keyset_field = "at"
    actions = None

    @property
    def title(self) -> str:
        return _("Alerts")

    def list_context(self, request: HttpRequest) -> dict[str, Any]:
        channels = [
            (name, channel.recipients()) for name, channel in deliveries.CHANNELS.items() if channel.configured()
        ]
        held = held_back() if request.user.has_perm("deadletters.view_deadletter") else []
        return {**super().list_context(request), "channels": channels, "held_back": held}

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        text = search_term.strip()
        if text and len(text) < SHORTEST:
            return queryset.none(), False
        return queryset.filter(subject__icontains=text) if text else queryset, False

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """One delivery has no page: its row says everything."""
        return redirect("admin:monitoring_delivery_changelist")

    @admin.display(description=gettext_lazy("State"))
    def state_chip(self, delivery: Delivery) -> SafeString:
        """Shape and word; why not, on hover."""
        shape = {Delivery.Outcome.SENT: "ok", Delivery.Outcome.LATE: "warn"}.get(delivery.outcome, "bad")  # type: ignore[call-overload]
        return format_html('<span class="o-chip" data-state="{}">{}</span>', shape, delivery.get_outcome_display())

    @admin.display(description=gettext_lazy("Subject"))
    def what(self, delivery: Delivery) -> SafeString:
        """What it was about, with the letter where it is one, and why it did not arrive."""
        return render_to_string("monitoring/_delivery.html", {"delivery": delivery})

    @admin.display(description=gettext_lazy("Channel"))
    def channel_name(self, delivery: Delivery) -> str:
        """By what."""
        return {"slack": "Slack", "mail": _("Mail")}.get(delivery.channel, delivery.channel)

    @admin.display(description=gettext_lazy("To"))
    def to(self, delivery: Delivery) -> SafeString:
        """To whom."""
        return format_html('<span class="o-wrap">{}</span>', delivery.recipients or "–")

    @admin.display(description=gettext_lazy("Spoke for"))
    def held(self, delivery: Delivery) -> str:
        """How many deaths it stands for; a report stands for none."""
        return number_format(delivery.held_back + 1, force_grouping=True) if delivery.dead_letter_id else "–"

    @admin.display(description=gettext_lazy("When"))
    def when(self, delivery: Delivery) -> SafeString:
        """How long ago, and when."""
        return render_to_string("_ago.html", {"at": delivery.at})


def held_back() -> list[Any]:
    """The errors with the most deaths since their last alert: {fingerprint, held_back, last_sent_at, exception, task, cause}.

    Letters without a fingerprint are counted under their `cause`, which is then there in words; else it is "".
    """
    newest = DeadLetter.objects.filter(fingerprint=OuterRef("fingerprint")).order_by("state", "-died_at")
    rows = (
        Alert.objects.filter(held_back__gt=0)
        .annotate(
            exception=Subquery(newest.values("exception_type")[:1]), task=Subquery(newest.values("task_name")[:1])
        )
        .order_by(F("held_back").desc())
    )
    causes = dict(Cause.choices)
    shown = rows.values("fingerprint", "held_back", "last_sent_at", "exception", "task")[:HELD_BACK]
    return [{**row, "cause": causes.get(row["fingerprint"], "")} for row in shown]
