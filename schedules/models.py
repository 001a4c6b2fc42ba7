"""Schedules live in django-celery-beat's tables; here they get their name."""

from django.utils.translation import gettext_lazy as _
from django_celery_beat.models import PeriodicTask


class Schedule(PeriodicTask):  # type: ignore[misc]  # django-celery-beat ships no types
    """A row that enqueues a task by the clock."""

    class Meta:
        proxy = True
        verbose_name = _("schedule")
        verbose_name_plural = _("schedules")
        permissions = (("run_schedule", "Can run schedules now"),)
