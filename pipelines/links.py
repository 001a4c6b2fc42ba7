"""Addresses that other rooms link to."""

from django.urls import NoReverseMatch, reverse

from pipelines.models import Step


def run_url(task_id: str) -> str | None:
    """The page of the run that this task is a step of; None for a task of no run."""
    run_id = Step.objects.filter(task_id=task_id).values_list("run_id", flat=True).first()
    if run_id is None:
        return None
    try:
        return reverse("admin:pipelines_run_change", args=[run_id])
    except NoReverseMatch:  # a project without the console
        return None
