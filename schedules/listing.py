"""The list of 100,000 schedules: pages by name, tabs by state, filters by task and queue, none of which reads all of them."""

from __future__ import annotations  # the stubs' ModelAdmin takes a type, Django's does not

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import urlencode

from django.contrib.admin import ModelAdmin, SimpleListFilter
from django.contrib.admin.views.main import ChangeList
from django.core.paginator import Paginator
from django.db import connection
from django.db.models import QuerySet
from django.db.models.expressions import Combinable
from django.http import HttpRequest  # noqa: TID251  (this module is a part of the admin's door)
from django.utils.formats import number_format
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from schedules.late import is_late, late
from schedules.models import Broken, Schedule
from schedules.spec import policy_of

# Counting further costs more than anybody reads off the number.
COUNTED = 10_000
# More choices than this are a search, not a menu.
CHOICES = 200
CURSORS = ("after", "before")

# state of a tab -> its label, and which schedules are in it
STATES: Mapping[str, tuple[Any, Callable[[QuerySet[Schedule]], QuerySet[Schedule]]]] = {
    "late": (gettext_lazy("Late"), late),
    "broken": (gettext_lazy("Broken"), lambda rows: rows.filter(broken__isnull=False)),
    "paused": (gettext_lazy("Paused"), lambda rows: rows.filter(policy__paused_at__isnull=False)),
    "off": (gettext_lazy("Off"), lambda rows: rows.filter(enabled=False)),
    "on": (gettext_lazy("On"), lambda rows: rows.filter(enabled=True)),
}


@dataclass(frozen=True, slots=True)
class Count:
    """A number of rows, counted up to COUNTED."""

    number: int

    def __str__(self) -> str:
        if self.number > COUNTED:
            return _("more than %s") % number_format(COUNTED, force_grouping=True)
        return str(number_format(self.number, force_grouping=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class Tab:
    """One tab of the list."""

    label: str
    url: str
    count: Count
    current: bool


def standing(schedule: Schedule) -> str:
    """How it stands, as the chip says it: off, broken, paused, late or on."""
    if not schedule.enabled:
        return "off"
    if why_broken(schedule):
        return "broken"
    if policy_of(schedule).paused_at:
        return "paused"
    return "late" if is_late(schedule) else "on"


def why_broken(schedule: Schedule) -> str:
    """Why it cannot run, as its row says or as beat found out; or nothing."""
    try:
        return schedule.problem or str(schedule.broken)
    except Broken.DoesNotExist:
        return ""


def count(rows: QuerySet[Any]) -> Count:
    """How many there are, up to COUNTED."""
    return Count(rows.order_by().values("pk")[: COUNTED + 1].count())


def tabs(params: Mapping[str, str]) -> Iterator[Tab]:
    """All of them, and those that somebody may have to look after; other filters go."""
    chosen = params.get("state", "")
    yield Tab(label=_("All"), url="?", count=count(Schedule.objects.all()), current=chosen not in STATES)
    for state, (label, narrow) in STATES.items():
        if state != "on":
            rows = narrow(Schedule.objects.all())
            yield Tab(label=str(label), url=f"?state={state}", count=count(rows), current=chosen == state)


class ValueFilter(SimpleListFilter):
    """A filter by a text column with an index; its choices are found by jumping from one value to the next."""

    field: ClassVar[str]

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin[Any]) -> list[tuple[str, str]]:
        values = distinct_values(self.field)
        chosen = self.value()
        return [(value, value) for value in ([chosen] if chosen and chosen not in values else []) + values]

    def has_output(self) -> bool:
        return True  # no schedule at all must not make the menu come and go

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(**{self.field: self.value()}) if self.value() else queryset


class TaskFilter(ValueFilter):
    """By task."""

    field = parameter_name = "task"
    title = gettext_lazy("task")


class QueueFilter(ValueFilter):
    """By the queue that a schedule names."""

    field = parameter_name = "queue"
    title = gettext_lazy("queue")


def distinct_values(column: str) -> list[str]:
    """The different values of `task` or `queue`, at most CHOICES: SELECT DISTINCT would read every row."""
    sql = f"""
        WITH RECURSIVE jump(value) AS (
            (SELECT {column} FROM django_celery_beat_periodictask WHERE {column} > '' ORDER BY {column} LIMIT 1)
            UNION ALL
            SELECT (SELECT {column} FROM django_celery_beat_periodictask WHERE {column} > jump.value ORDER BY {column} LIMIT 1)
            FROM jump WHERE jump.value IS NOT NULL
        )
        SELECT value FROM jump WHERE value IS NOT NULL LIMIT %s
    """  # noqa: S608  (the two columns above, never a request's)
    with connection.cursor() as cursor:
        cursor.execute(sql, [CHOICES])
        return [value for (value,) in cursor.fetchall()]


class ScheduleList(ChangeList):
    """Pages by the last name seen: `?after=<name>` and `?before=<name>`. The last page costs what the first one does."""

    cursor: tuple[str, str] | None = None
    older = newer = ""  # the next and the previous page, as templates/admin/pagination.html calls them
    counted: Count

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> QuerySet[Any]:
        # Out of every link and hidden field that Django makes: a new filter begins at its first page.
        for name in CURSORS:
            place = self.params.pop(name, "")
            self.filter_params.pop(name, None)
            if place:
                self.cursor = (name, place)
        rows = super().get_queryset(request, exclude_parameters)
        state = STATES.get(self.params.get("state", ""))
        return state[1](rows) if state else rows

    def get_filters_params(self, params: Any = None) -> dict[str, Any]:
        found: dict[str, Any] = super().get_filters_params(params)
        found.pop("state", None)
        return found

    def get_ordering(self, request: HttpRequest, queryset: QuerySet[Any]) -> list[str | Combinable]:
        return ["name"]

    def get_results(self, request: HttpRequest) -> None:
        size = self.list_per_page
        back = self.cursor is not None and self.cursor[0] == "before"
        rows = list(self._from_cursor()[: size + 1])
        more, rows = len(rows) > size, rows[:size]
        if back:
            rows.reverse()
        self.counted = Count(len(rows)) if self.cursor is None and not more else count(self.queryset)
        self.paginator = Paginator(rows, size)  # Django's templates look at it; nothing here pages by number
        self.result_list, self.result_count, self.full_result_count = rows, self.counted.number, None
        self.show_full_result_count, self.show_admin_actions = False, bool(rows)
        self.can_show_all, self.multi_page = False, False
        if rows and (more or back):
            self.older = self._link("after", rows[-1])
        if rows and self.cursor is not None and (more or not back):
            self.newer = self._link("before", rows[0])

    def _from_cursor(self) -> QuerySet[Any]:
        rows: QuerySet[Any] = self.queryset
        if self.cursor is None:
            return rows
        name, place = self.cursor
        if name == "before":
            return rows.filter(name__lt=place).order_by("-name")
        return rows.filter(name__gt=place)

    def _link(self, name: str, row: Schedule) -> str:
        return "?" + urlencode({**self.params, name: row.name})
