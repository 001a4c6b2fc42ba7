"""Addresses that other rooms link to."""

from collections.abc import Iterable

from django.urls import NoReverseMatch, reverse

from deadletters.models import DeadLetter


def letter_urls(task_ids: Iterable[str]) -> dict[str, str]:
    """Task id -> the page of its letter, for those that have one."""
    letters = DeadLetter.objects.filter(task_id__in=list(task_ids)).values_list("task_id", "pk")
    try:
        return {task_id: reverse("admin:deadletters_deadletter_change", args=[pk]) for task_id, pk in letters}
    except NoReverseMatch:  # a project without the console
        return {}
