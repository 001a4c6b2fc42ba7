"""Redrives: a replay of many as an object that is watched, paused and stopped."""

import uuid

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _


class Redrive(models.Model):
    """One replay of many letters: which, how fast, on what conditions, and how far it is."""

    class State(models.TextChoices):
        """canary -> sending -> watching -> done; paused, stopped and cancelled are left by people."""

        # The first letters are sent; the others wait for their outcome.
        CANARY = "canary", _("Canary")
        # Sends at its rate.
        SENDING = "sending", _("Sending")
        # Everything is sent; outcomes are awaited.
        WATCHING = "watching", _("Watching")
        # A person holds it; it can go on.
        PAUSED = "paused", _("Paused")
        # It held itself, because too many died again or the broker was away; a person can let it go on.
        STOPPED = "stopped", _("Stopped")
        # A person ended it.
        CANCELLED = "cancelled", _("Cancelled")
        # Everything was sent and has an outcome, or nothing was heard for long.
        DONE = "done", _("Done")

    ACTIVE = (State.CANARY, State.SENDING, State.WATCHING)
    HELD = (State.PAUSED, State.STOPPED)
    ENDED = (State.CANCELLED, State.DONE)

    state = models.CharField(_("state"), max_length=12, choices=State, default=State.SENDING)
    # Why it is in this state, for people.
    why = models.TextField(_("why"), blank=True)
    # The frozen question: a Selection as JSON, the highest id there was, and the newest death: what dies later is not swept in, be it
    # for the first time or (another redrive is at work) once more.
    selection = models.JSONField(_("selection"), default=dict)
    upto = models.BigIntegerField(_("up to letter"))
    until = models.DateTimeField(null=True)  # null: it was started before this was kept
    total = models.PositiveIntegerField(_("letters"), default=0)

    reason = models.TextField(_("reason"), blank=True)
    rate = models.FloatField(_("rate"), null=True)  # letters a second; null: as fast as it goes
    canary = models.PositiveIntegerField(_("canary"), default=0)
    canary_passed = models.BooleanField(_("canary passed"), default=False)
    stop_above = models.FloatField(_("stop above"), null=True)  # per cent that died again; null: never

    # A user's name as it was, or the policy's.
    who = models.CharField(_("who"), max_length=150, blank=True)
    started_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+", verbose_name=_("started by")
    )
    origin = models.CharField(_("from"), max_length=255, blank=True)
    created_at = models.DateTimeField(_("started"), auto_now_add=True)
    ended_at = models.DateTimeField(_("ended"), null=True)  # null: it has not

    # Letters up to here are claimed; up to `sent_to` they are sent. Between the two lies the slice that a crash may have left.
    cursor = models.BigIntegerField(default=0)
    sent_to = models.BigIntegerField(default=0)
    sent = models.PositiveIntegerField(_("sent"), default=0)
    succeeded = models.PositiveIntegerField(_("succeeded"), default=0)
    died = models.PositiveIntegerField(_("died again"), default=0)
    skipped = models.PositiveIntegerField(_("skipped"), default=0)
    # What a person who resumed a stopped redrive had seen: it does not count for the next stop.
    judged_succeeded = models.PositiveIntegerField(default=0)
    judged_died = models.PositiveIntegerField(default=0)
    # When the newest outcome came, or the newest letter was sent.
    moved_at = models.DateTimeField(_("last moved"), auto_now_add=True)

    # At a rate: until when the letters that were sent are paid for.
    paid_until = models.DateTimeField(null=True)
    # A broker that does not answer is asked again some times before the redrive stops.
    refusals = models.PositiveSmallIntegerField(default=0)
    # Who drives it: a token a drive, and until when nobody else may.
    driver = models.UUIDField(null=True)
    lease_until = models.DateTimeField(null=True)

    class Meta:
        verbose_name = _("redrive")
        verbose_name_plural = _("redrives")
        ordering = ("-id",)
        default_permissions = ("view",)
        permissions = (("start_redrive", "Can start, pause, resume and cancel redrives"),)
        indexes = (models.Index(fields=["state"], name="redrives_by_state"),)

    def __str__(self) -> str:
        return _("Redrive %(n)s") % {"n": self.pk}


class RedriveItem(models.Model):
    """One letter of a redrive, and what became of it. Narrow: 100,000 of them are written in a second."""

    class Outcome(models.TextChoices):
        """What is known of it."""

        # On its way.
        SENT = "sent", _("Sent")
        SUCCEEDED = "succeeded", _("Succeeded")
        DIED = "died", _("Died again")
        # Not sent: `why` says why.
        SKIPPED = "skipped", _("Skipped")

    pk = models.CompositePrimaryKey("redrive_id", "dead_letter_id")
    # No constraints in the database: each would cost more than the row itself.
    redrive = models.ForeignKey(Redrive, models.CASCADE, related_name="items", db_constraint=False, db_index=False)
    dead_letter = models.ForeignKey(
        "deadletters.DeadLetter", models.CASCADE, related_name="redrive_items", db_constraint=False
    )
    replay_number = models.PositiveIntegerField()
    outcome = models.CharField(max_length=9, choices=Outcome, default=Outcome.SENT)
    why = models.CharField(max_length=300, blank=True)

    class Meta:
        default_permissions = ()
        indexes = (
            # The few whose outcome is still to come.
            models.Index(fields=["redrive", "dead_letter"], name="items_awaited", condition=models.Q(outcome="sent")),
        )

    def __str__(self) -> str:
        return f"{self.dead_letter_id} {self.outcome}"


def new_driver() -> uuid.UUID:
    """The token of one drive."""
    return uuid.uuid4()
