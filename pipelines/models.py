"""Runs, their steps, and the chords that can be re-opened."""

import uuid

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _


class Run(models.Model):
    """One execution of a pipeline. Written at its start and at its cancellation, never by its tasks: its state is read off the results."""

    class Origin(models.TextChoices):
        """Who started it."""

        ADMIN = "admin", _("Console")
        COMMAND = "command", _("Command")
        SCHEDULE = "schedule", _("Schedule")
        PYTHON = "python", _("Python")

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    pipeline = models.CharField(_("pipeline"), max_length=100)
    parameters = models.JSONField(_("parameters"), default=dict)
    # The canvas as a tree, see graph.py: {"kind": "chain" | "group" | "chord" | "task", …, "task_id": …}
    tree = models.JSONField(_("tree"))
    # The result that a caller waits on: the last task of the canvas, or the group's own id.
    result_id = models.CharField(_("result id"), max_length=255)
    origin = models.CharField(_("started from"), max_length=12, choices=Origin, default=Origin.PYTHON)
    started_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+", verbose_name=_("started by")
    )
    created_at = models.DateTimeField(_("started"), auto_now_add=True)
    # null: the broker has not got all of it, or whoever sent it ended before saying so.
    sent_at = models.DateTimeField(_("sent"), null=True, blank=True)
    # null: nobody cancelled it.
    cancelled_at = models.DateTimeField(_("cancelled"), null=True, blank=True)
    cancelled_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
        verbose_name=_("cancelled by"),
    )
    # Why it could not be sent; empty: it was.
    problem = models.TextField(_("problem"), blank=True)

    class Meta:
        verbose_name = _("pipeline run")
        verbose_name_plural = _("pipeline runs")
        ordering = ("-created_at",)
        default_permissions = ("view",)
        permissions = (("start_run", "Can start pipeline runs"), ("cancel_run", "Can cancel pipeline runs"))
        indexes = (
            models.Index(fields=["-created_at"], name="runs_newest"),
            models.Index(fields=["pipeline", "-created_at"], name="runs_of_pipeline"),
        )

    def __str__(self) -> str:
        return f"{self.pipeline} {str(self.id)[:8]}"


class Step(models.Model):
    """One task of a run. Its state is that of the result and the dead letter with the same task id."""

    run = models.ForeignKey(Run, models.CASCADE, related_name="steps", verbose_name=_("run"))
    # In the order of the tree, from 0.
    position = models.PositiveIntegerField(_("position"))
    task_id = models.CharField(_("task id"), max_length=255, unique=True)
    task_name = models.CharField(_("task"), max_length=255)

    class Meta:
        verbose_name = _("step")
        verbose_name_plural = _("steps")
        ordering = ("run", "position")
        default_permissions = ()
        constraints = (models.UniqueConstraint("run", "position", name="step_position_once"),)

    def __str__(self) -> str:
        return f"{self.task_name} {self.task_id}"


class Chord(models.Model):
    """The barrier of one chord: recomputed from the header's results, so that a replayed member can still complete it."""

    class State(models.TextChoices):
        """waiting -> dispatching -> done; waiting -> failed -> waiting (a member is replayed)."""

        # Some part of the header is not finished.
        WAITING = "waiting", _("Waiting")
        # All parts are finished, one at least is dead; the body was told once.
        FAILED = "failed", _("Failed")
        # All parts succeeded; the body is being sent.
        DISPATCHING = "dispatching", _("Dispatching")
        # The body was sent.
        DONE = "done", _("Done")

    group_id = models.CharField(_("group id"), max_length=255, unique=True)
    # Celery's result tuples of the header's parts, in order.
    header = models.JSONField(_("header"))
    # The body's signature as Celery writes it, with its own id, chain and chord: as text, for PostgreSQL's JSON refuses NUL, NaN and half
    # a surrogate pair in its arguments, takes 1e22 for a whole number, and sorts keys.
    body = models.TextField(_("body"))
    body_id = models.CharField(_("body id"), max_length=255, blank=True, db_index=True)
    state = models.CharField(_("state"), max_length=12, choices=State, default=State.WAITING)
    # A part of the header that had not ended when somebody last looked: as long as it has not, no other part has to be looked at.
    waits_for = models.CharField(_("waits for"), max_length=255, blank=True)
    # Of a failed chord: whether the body knows of it.
    told = models.BooleanField(_("told"), default=False)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    updated_at = models.DateTimeField(_("updated"), auto_now=True)

    class Meta:
        verbose_name = _("chord")
        verbose_name_plural = _("chords")
        default_permissions = ()
        indexes = (
            models.Index(
                fields=["updated_at"],
                name="chords_unfinished",
                condition=models.Q(state__in=("waiting", "dispatching")) | models.Q(state="failed", told=False),
            ),
        )

    def __str__(self) -> str:
        return self.group_id
