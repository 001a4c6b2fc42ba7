"""The list of runs: what it reads for its rows, its menu, and its search."""

from typing import Any

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db.models import Q, QuerySet
from django.http import HttpRequest  # noqa: TID251  (this module is a part of the admin's door)
from django.utils.translation import gettext_lazy

from deadletters.search import is_uuid
from pipelines import registry, runs
from pipelines.models import Run, Step


class RunChangeList(ChangeList):
    """The list, with the progress of all its rows read at once."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        self.result_list = list(self.result_list)
        known = runs.overview(self.result_list)
        for run in self.result_list:
            run.now = known[run.pk]


class PipelineFilter(admin.SimpleListFilter):
    """One pipeline's runs. The choices are the registry's: to ask a big table for them costs a second."""

    title = gettext_lazy("pipeline")
    parameter_name = "pipeline"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(pipeline.name, pipeline.name) for pipeline in registry.all_pipelines()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Run]) -> QuerySet[Run]:
        return queryset.filter(pipeline=self.value()) if self.value() else queryset


def find(queryset: QuerySet[Run], text: str) -> QuerySet[Run]:
    """Runs with this id, with a task of this id, or of pipelines with `text` in their name."""
    text = text.strip()
    if not text:
        return queryset
    if is_uuid(text):
        return queryset.filter(Q(pk=text) | Q(pk__in=Step.objects.filter(task_id=text).values("run_id")))
    return queryset.filter(
        pipeline__in=[one.name for one in registry.all_pipelines() if text.lower() in one.name.lower()]
    )
