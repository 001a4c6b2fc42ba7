"""Admin lists of a million rows: capped counts, keyset pages, choices from an index, and an end to patience."""

from __future__ import annotations  # the stubs' ModelAdmin takes a type, Django's does not

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, ClassVar
from urllib.parse import urlencode

from django.contrib.admin import ModelAdmin, ShowFacets, SimpleListFilter
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.views.main import ChangeList
from django.core.paginator import Paginator
from django.db import OperationalError, connection, models, transaction
from django.db.models import Q, QuerySet
from django.db.models.expressions import Combinable
from django.forms import Media
from django.http import HttpRequest, HttpResponse  # noqa: TID251  (this module is a part of the admin's door)
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.formats import number_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from psycopg.errors import QueryCanceled

from deadletters.console.narrow import NarrowAdmin, refuse_odd_rows
from deadletters.distinct import distinct_values

# Counting further costs more than anybody reads off the number.
COUNTED = 10_000
# Of a list that is narrowed no index says it all, and each row must be looked at.
COUNTED_NARROWED = 1_000
# A list that takes longer asks for a narrower question.
PATIENCE = timedelta(seconds=2)
# Nor is a number worth waiting for: then it is an estimate.
COUNTING = timedelta(milliseconds=25)
CURSORS = ("before", "after")


_LIMIT = "SELECT set_config('statement_timeout', %s, true)"


class TooBroad(Exception):
    """The question took the database longer than a list may take."""


@contextlib.contextmanager
def patience(limit: timedelta = PATIENCE) -> Iterator[None]:
    """Let no statement inside run longer than `limit`.

    Raises:
        TooBroad: one did.
    """
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT current_setting('statement_timeout')")
            (before,) = cursor.fetchone()
            cursor.execute(_LIMIT, [str(int(limit.total_seconds() * 1000))])
            yield
            cursor.execute(_LIMIT, [before])  # of the transaction around this one, if there is one
    except OperationalError as problem:
        if isinstance(problem.__cause__, QueryCanceled):
            raise TooBroad from problem
        raise


@dataclass(frozen=True, slots=True)
class Count:
    """A number of rows; not exact beyond COUNTED."""

    number: int
    exact: bool = True

    def __str__(self) -> str:
        number = number_format(self.number, force_grouping=True)
        return number if self.exact else _("about %(number)s") % {"number": number}


def count(rows: QuerySet[Any], most: int | None = None) -> Count:
    """How many `rows` there are: counted up to `most` (COUNTED), beyond that what PostgreSQL's planner thinks."""
    most = most or COUNTED
    number = rows.order_by().values("pk")[: most + 1].count()
    return Count(number) if number <= most else estimate(rows, least=number)


def quick_count(rows: QuerySet[Any], *, least: int, most: int | None = None) -> Count:
    """The same for a question that no index may answer: an estimate when counting takes longer than COUNTING."""
    try:
        with patience(COUNTING):
            return count(rows, most)
    except TooBroad:
        return estimate(rows, least=least)


def estimate(rows: QuerySet[Any], *, least: int) -> Count:
    """What PostgreSQL's planner thinks, but no fewer than the `least` that are known to be there."""
    plan: Any = json.loads(rows.order_by().values("pk").explain(format="json"))
    return Count(max(least, int(plan[0]["Plan"]["Plan Rows"])), exact=False)


class ValueFilter(SimpleListFilter):
    """A filter by one indexed text column; its choices cost no scan of the table. Make one with `value_filter`."""

    field: ClassVar[str]
    labels: ClassVar[Mapping[str, Any]]

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin[Any]) -> list[tuple[str, str]]:
        values = distinct_values(model_admin.model, self.field)
        chosen = self.value()
        if chosen and chosen not in values:
            values.insert(0, chosen)
        labels = self.labels or dict(model_admin.model._meta.get_field(self.field).flatchoices)
        return [(value, str(labels.get(value, value))) for value in values]

    def has_output(self) -> bool:
        return True  # an empty table, or one value, must not make the menu come and go

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(**{self.field: self.value()}) if self.value() else queryset


def value_filter(field: str, title: Any, labels: Mapping[str, Any] | None = None) -> type[ValueFilter]:
    """A `list_filter` entry for an indexed text column; `labels` say the values otherwise than the field's choices do."""
    about = {"field": field, "parameter_name": field, "title": title, "labels": labels or {}}
    return type(f"{field.title()}Filter", (ValueFilter,), about)


class AgeFilter(SimpleListFilter):
    """The last hour, day or week of a time column. Make one with `age_filter`."""

    field: ClassVar[str]
    title = gettext_lazy("age")
    parameter_name = "age"
    ages: ClassVar = {
        "hour": (gettext_lazy("Last hour"), timedelta(hours=1)),
        "day": (gettext_lazy("Last day"), timedelta(days=1)),
        "week": (gettext_lazy("Last 7 days"), timedelta(days=7)),
    }

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin[Any]) -> list[tuple[str, str]]:
        return [(name, str(label)) for name, (label, _age) in self.ages.items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        chosen = self.ages.get(self.value() or "")
        return queryset.filter(**{f"{self.field}__gte": timezone.now() - chosen[1]}) if chosen else queryset


def age_filter(field: str) -> type[AgeFilter]:
    """A `list_filter` entry for an indexed time column."""
    return type("AgeFilter", (AgeFilter,), {"field": field})


class KeysetChangeList(ChangeList):
    """Pages by the last row seen instead of by number: page 15,000 costs what the first one does.

    `?before=<time>,<id>` are the rows older than that one, `?after=` the newer ones. The ModelAdmin names its time column as
    `keyset_field` (BigTableAdmin does); the list has no other order.
    """

    cursor: tuple[str, datetime, int] | None = None
    older = newer = ""
    counted: Count

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> QuerySet[Any]:
        # Out of every link and hidden field that Django makes: a new filter begins at its first page.
        for name in CURSORS:
            raw = self.params.pop(name, "")
            self.filter_params.pop(name, None)
            if raw and (place := _place(raw)):
                self.cursor = (name, *place)
        return super().get_queryset(request, exclude_parameters)

    def get_ordering(self, request: HttpRequest, queryset: QuerySet[Any]) -> list[str | Combinable]:
        return [f"-{self.field}", "-pk"]

    @property
    def narrowed(self) -> bool:
        """Whether somebody has searched or filtered."""
        return bool(self.query or self.has_active_filters)

    @property
    def field(self) -> str:
        """The time column that the list is ordered by."""
        name: str = self.model_admin.keyset_field  # type: ignore[attr-defined]  # asked for in the docstring
        return name

    def get_results(self, request: HttpRequest) -> None:
        size = self.list_per_page
        back = self.cursor is not None and self.cursor[0] == "after"
        rows = list(self._from_cursor()[: size + 1])
        more, rows = len(rows) > size, rows[:size]
        if back:
            rows.reverse()
        known = Count(len(rows)) if self.cursor is None and not more else None
        most = COUNTED_NARROWED if self.narrowed else COUNTED
        self.counted = known or quick_count(self.queryset, least=len(rows), most=most)
        self.paginator = Paginator(rows, size)  # Django's templates look at it; nothing here pages by number
        self.result_list, self.result_count, self.full_result_count = rows, self.counted.number, None
        self.show_full_result_count, self.show_admin_actions = False, bool(rows)
        self.can_show_all, self.multi_page = False, False
        if rows and (more or back):
            self.older = self._link("before", rows[-1])
        if rows and self.cursor is not None and (more or not back):
            self.newer = self._link("after", rows[0])

    def _from_cursor(self) -> QuerySet[Any]:
        rows: QuerySet[Any] = self.queryset
        if self.cursor is None:
            return rows
        name, at, pk = self.cursor
        side = "lt" if name == "before" else "gt"
        rows = rows.filter(
            Q(**{f"{self.field}__{side}": at}) | Q(**{self.field: at, f"pk__{side}": pk}),
            **{f"{self.field}__{side}e": at},  # says the same once more, in a form that the index can serve
        )
        return rows.order_by(self.field, "pk") if name == "after" else rows

    def _link(self, name: str, row: models.Model) -> str:
        cursor = f"{getattr(row, self.field).isoformat()},{row.pk}"
        return "?" + urlencode({**self.params, name: cursor})


def _place(raw: str) -> tuple[datetime, int] | None:
    """A cursor out of an address; None for one that somebody mangled: that is the first page."""
    at, _comma, pk = raw.rpartition(",")
    try:
        place = datetime.fromisoformat(at), int(pk)
    except ValueError:
        return None
    return place if timezone.is_aware(place[0]) else None


class BigTableAdmin(NarrowAdmin):
    """A list of a table that may have a million rows, and that nobody edits. Its subclass names `keyset_field`."""

    sortable_by = ()
    list_per_page = 50
    show_full_result_count = False
    show_facets = ShowFacets.NEVER
    keyset_field: str

    @property
    def media(self) -> Media:
        return Media(js=["admin/js/actions.js"])  # the stock list brings jQuery, and uses it nowhere

    def action_checkbox(self, obj: models.Model) -> SafeString:
        """Django's own box; a widget rendered for each of fifty rows is a sixth of the page's time."""
        return format_html(
            '<input type="checkbox" name="{}" value="{}" class="action-select" aria-label="{}">',
            ACTION_CHECKBOX_NAME, obj.pk, _("Tick %s") % obj,
        )  # fmt: skip

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return KeysetChangeList

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        if request.method == "POST":
            refuse_odd_rows(request)
            return super().changelist_view(request, extra_context)
        try:
            with patience():
                return super().changelist_view(request, {**(extra_context or {}), **self.list_context(request)})
        except TooBroad:
            return self.too_broad(request)

    def list_context(self, request: HttpRequest) -> dict[str, Any]:
        """What the list's template gets besides Django's own; asked within the same patience."""
        return {"title": self.title}

    @property
    def title(self) -> str:
        """The list's heading."""
        return capfirst(str(self.opts.verbose_name_plural))

    def page(self, request: HttpRequest, template: str, title: str, **context: Any) -> TemplateResponse:
        """A page of the console that is no list."""
        common = {**self.admin_site.each_context(request), "opts": self.opts, "title": title}
        return TemplateResponse(request, template, {**common, **context})

    def too_broad(self, request: HttpRequest) -> TemplateResponse:
        """The answer to a question that took too long."""
        page = self.page(request, "deadletters/too_broad.html", self.title)
        page.status_code = 400  # not 503: nothing is wrong here, and nobody has to be woken
        return page
