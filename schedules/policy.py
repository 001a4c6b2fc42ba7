"""How a schedule may run: what django-celery-beat's table has no column for."""

from django.db import models
from django.utils.translation import gettext_lazy as _
from django_celery_beat.models import PeriodicTask

from schedules.reasons import words


class Overlap(models.TextChoices):
    """What happens when it is due while the task of the run before is still alive."""

    ALLOW = "allow", _("Run beside it")
    SKIP = "skip", _("Skip this run")
    QUEUE = "queue", _("Run when it ends (at most one waits)")


class Missed(models.TextChoices):
    """What happens to due times that passed while nothing could be sent."""

    ONCE = "once", _("Run once, for the newest")
    SKIP = "skip", _("Skip them")
    ALL = "all", _("Run all, up to the limit")


class Policy(models.Model):
    """How one schedule may run. A schedule without a row has these defaults."""

    schedule = models.OneToOneField(
        PeriodicTask,
        models.CASCADE,
        primary_key=True,
        related_name="policy",
        db_constraint=False,  # the migration makes one that cascades in the database, for those who delete with SQL
    )
    overlap = models.CharField(_("while the last run is alive"), max_length=5, choices=Overlap, default=Overlap.ALLOW)
    missed = models.CharField(_("missed runs"), max_length=4, choices=Missed, default=Missed.ONCE)
    catch_up_limit = models.PositiveIntegerField(_("at most"), default=100)
    # Seconds. None: however late.
    grace = models.PositiveIntegerField(_("grace time"), null=True, blank=True)
    # Seconds. Each run leaves at a time of its own within them, always the same one for the same due time.
    jitter = models.PositiveIntegerField(_("jitter"), default=0)
    pause_after_failures = models.PositiveIntegerField(_("pause after failures in a row"), null=True, blank=True)
    # Paused while paused_at is set; due times up to resumed_at are not caught up.
    paused_at = models.DateTimeField(null=True, blank=True, editable=False)
    paused_until = models.DateTimeField(_("paused until"), null=True, blank=True)
    # What a person wrote; of a pause that beat made, English words, and the same as codes for the console (schedules/reasons.py).
    pause_reason = models.CharField(_("reason"), max_length=500, blank=True, default="")
    pause_why = models.JSONField(null=True, blank=True, editable=False)
    paused_by = models.CharField(max_length=150, blank=True, default="", editable=False)
    resumed_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        verbose_name = _("policy")
        verbose_name_plural = _("policies")

    def __str__(self) -> str:
        return f"{self.schedule_id}: {self.overlap}, {self.missed}"

    @property
    def pause_words(self) -> str:
        """Why it is paused, for people."""
        return words(self.pause_why, self.pause_reason)
