"""What became of each due time, which schedules are broken, and which beats are alive: tables beside django-celery-beat's own."""

from datetime import datetime, timedelta

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _
from django_celery_beat.models import PeriodicTask

from schedules.reasons import words

# A message that leaves later than this after its due time is late. The beat looks several times a second.
LATE = timedelta(seconds=5)


class State(models.TextChoices):
    """How far an occurrence came."""

    CLAIMED = "claimed", _("About to be sent")
    WAITING = "waiting", _("Waits for the run before")
    SENT = "sent", _("Sent")
    SKIPPED = "skipped", _("Skipped")
    MISSED = "missed", _("Missed")
    REFUSED = "refused", _("Refused")


class Occurrence(models.Model):
    """One due time of one schedule, claimed by whoever inserts the row. Its id is the id of the task."""

    id = models.UUIDField(primary_key=True, editable=False)
    # No constraint: what ran stays in the history when the schedule is deleted.
    schedule = models.ForeignKey(
        PeriodicTask, models.DO_NOTHING, related_name="occurrences", db_constraint=False, db_index=False
    )
    name = models.CharField(max_length=200)
    due_at = models.DateTimeField()
    state = models.CharField(max_length=7, choices=State, default=State.CLAIMED)
    # Why it was skipped, missed or refused, or why it left late, in English. Nothing when all was as usual.
    reason = models.CharField(max_length=500, blank=True, default="")
    # The same as codes with their numbers, for the console (schedules/reasons.py). None when there is nothing to say, and in old rows.
    why = models.JSONField(null=True, blank=True)
    # Earlier due times that this row stands for: each alike and none was sent.
    folded = models.PositiveIntegerField(default=0)
    by = models.CharField(max_length=150, blank=True, default="")  # who ran it by hand
    claimed_at = models.DateTimeField(auto_now_add=True)
    sent_at = models.DateTimeField(null=True, blank=True)
    # The copy of the message that a worker took first; another copy of the same occurrence is dropped.
    copy = models.CharField(max_length=36, blank=True, default="")
    received_at = models.DateTimeField(null=True, blank=True)
    # Only for tasks that store no result.
    outcome = models.CharField(max_length=20, blank=True, default="")

    class Meta:
        verbose_name = _("occurrence")
        verbose_name_plural = _("occurrences")
        indexes = [
            models.Index(fields=["schedule", "-due_at"], name="schedules_occurrence_newest"),
            models.Index(
                fields=["due_at"], name="schedules_occurrence_open", condition=Q(state__in=["claimed", "waiting"])
            ),
            models.Index(fields=["claimed_at"], name="schedules_occurrence_age"),
        ]

    def __str__(self) -> str:
        return f"{self.name}, {self.due_at:%Y-%m-%d %H:%M:%S %Z}"


class Broken(models.Model):
    """A schedule that cannot run, and why. The beat writes it when it finds out and deletes it when the row is mended."""

    schedule = models.OneToOneField(
        PeriodicTask, models.CASCADE, primary_key=True, related_name="broken", db_constraint=False
    )
    reason = models.CharField(max_length=500)  # in English
    why = models.JSONField(null=True, blank=True)  # as codes
    since = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name = _("broken schedule")
        verbose_name_plural = _("broken schedules")

    def __str__(self) -> str:
        return words(self.why, self.reason)


class Beat(models.Model):
    """One beat process, for the eyes; who leads is decided by a lock, not here."""

    name = models.CharField(primary_key=True, max_length=200)  # host:pid
    started_at = models.DateTimeField()
    ticked_at = models.DateTimeField()
    # None while it stands by.
    leads_since = models.DateTimeField(null=True, blank=True)
    schedules = models.PositiveIntegerField(default=0)  # enabled ones, as the leader knows them

    class Meta:
        verbose_name = _("beat")
        verbose_name_plural = _("beats")

    def __str__(self) -> str:
        return self.name

    def age(self, now: datetime) -> timedelta:
        """How long ago it last showed that it lives."""
        return max(timedelta(0), now - self.ticked_at)
