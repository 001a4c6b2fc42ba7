"""The audit trail: who did what, searchable and filterable, never editable."""

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest  # noqa: TID251
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy

from deadletters.console.listing import BigTableAdmin, age_filter, value_filter
from deadletters.models import Act


@admin.register(Act)
class ActAdmin(BigTableAdmin):
    """A list and nothing else: an act is one line."""

    list_display = ("at_time", "who_acted", "what", "number", "about", "reason_given", "origin")
    list_display_links = None
    list_filter = (
        value_filter("verb", gettext_lazy("act")),
        value_filter("who", gettext_lazy("person")),
        age_filter("at"),
    )
    search_fields = ("reason",)
    search_help_text = gettext_lazy("A person, words of the reason or the subject")
    actions = None
    keyset_field = "at"

    def has_view_permission(self, request: HttpRequest, obj: Act | None = None) -> bool:
        return request.user.has_perm("deadletters.view_act")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Act], search_term: str
    ) -> tuple[QuerySet[Act], bool]:
        if not search_term:
            return queryset, False
        text = search_term.strip()
        found = Q(who=text) | Q(reason__icontains=text) | Q(subject__icontains=text) | Q(origin__icontains=text)
        return queryset.filter(found), False

    @admin.display(description=gettext_lazy("When"))
    def at_time(self, act: Act) -> SafeString:
        """How long ago, and when."""
        return render_to_string("_ago.html", {"at": act.at})

    @admin.display(description=gettext_lazy("Who"))
    def who_acted(self, act: Act) -> str:
        """A person, or the platform."""
        return act.who or str(gettext_lazy("the platform"))

    @admin.display(description=gettext_lazy("Act"))
    def what(self, act: Act) -> SafeString:
        """The verb, as a link to what it was done to."""
        if act.redrive_id:
            url = reverse("admin:deadletters_redrive_change", args=[act.redrive_id])
        elif act.dead_letter_id:
            url = reverse("admin:deadletters_deadletter_change", args=[act.dead_letter_id])
        elif act.fingerprint:
            url = reverse("admin:deadletters_deadletter_error", args=[act.fingerprint])
        else:
            return format_html("<b>{}</b>", act.get_verb_display())
        return format_html('<a href="{}">{}</a>', url, act.get_verb_display())

    @admin.display(description=gettext_lazy("Subject"))
    def about(self, act: Act) -> SafeString:
        """Which letters."""
        return format_html('<span class="o-cut" title="{}">{}</span>', act.subject, act.subject)

    @admin.display(description=gettext_lazy("Reason"))
    def reason_given(self, act: Act) -> SafeString:
        """In the person's words."""
        return format_html('<span class="o-cut" title="{}">{}</span>', act.reason, act.reason[:160] or "–")
