"""What the monitoring remembers: which error was told about when, when beat was last heard of, and what each minute brought."""

from django.db import models
from django.utils.translation import gettext_lazy as _


class Alert(models.Model):
    """The last alert about one error; holds back the next one until ALERT_EVERY seconds have passed."""

    fingerprint = models.CharField(_("fingerprint"), max_length=32, unique=True)
    last_sent_at = models.DateTimeField(_("last sent"))
    # Letters that died since the last alert and were not told about one by one.
    held_back = models.PositiveIntegerField(_("held back"), default=0)
    # What the last alert said had been held back before it.
    told = models.PositiveIntegerField(_("told"), default=0)

    class Meta:
        verbose_name = _("alert")
        verbose_name_plural = _("alerts")
        default_permissions = ("view",)

    def __str__(self) -> str:
        return self.fingerprint


class Heartbeat(models.Model):
    """When beat's heartbeat last came through: the proof that beat, the broker, a worker and the database work together."""

    name = models.CharField(_("name"), max_length=32, unique=True)
    at = models.DateTimeField(_("at"))

    class Meta:
        verbose_name = _("heartbeat")
        verbose_name_plural = _("heartbeats")
        default_permissions = ()

    def __str__(self) -> str:
        return self.name


class Minute(models.Model):
    """What happened within one minute, counted once when it was over: the dashboard adds these up and scans nothing."""

    at = models.DateTimeField(_("minute"), primary_key=True)
    # Whether the next four were; a row may be there before its minute is over, for a sample.
    counted = models.BooleanField(_("counted"), default=False)
    # Tasks whose result was last written within it, and letters that died within it.
    succeeded = models.PositiveIntegerField(_("succeeded"), default=0)
    failed = models.PositiveIntegerField(_("failed"), default=0)
    died = models.PositiveIntegerField(_("died"), default=0)
    # Of all tasks together, from their start to their end.
    busy = models.FloatField(_("seconds run"), default=0)
    # As it was at some moment within it; null: nobody looked.
    open = models.PositiveIntegerField(_("open letters"), null=True)
    waiting = models.PositiveIntegerField(_("waiting messages"), null=True)
    workers = models.PositiveIntegerField(_("workers"), null=True)

    class Meta:
        verbose_name = _("minute")
        verbose_name_plural = _("minutes")
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M}"


class PausedQueue(models.Model):
    """A queue that no worker may take from until somebody resumes it."""

    name = models.CharField(_("queue"), max_length=255, primary_key=True)
    at = models.DateTimeField(_("paused"), auto_now_add=True)
    # A user's name: the row outlives the user.
    by = models.CharField(_("by"), max_length=150)
    reason = models.TextField(_("reason"), blank=True)
    # Workers that took from it, or would have: they are told when it is resumed.
    workers = models.JSONField(_("workers"), default=list)

    class Meta:
        verbose_name = _("paused queue")
        verbose_name_plural = _("paused queues")
        default_permissions = ()
        permissions = (
            ("view_workers", "Can see workers and queues"),
            ("control_workers", "Can pause queues, revoke tasks and stop workers"),
        )

    def __str__(self) -> str:
        return self.name


class Delivery(models.Model):
    """One notice that was sent, or could not be."""

    class Outcome(models.TextChoices):
        """What came of it."""

        SENT = "sent", _("Sent")
        # The channel is away or busy; it is tried again.
        LATE = "late", _("Not reached")
        # Another try would be refused, too.
        REFUSED = "refused", _("Refused")

    at = models.DateTimeField(_("at"))
    channel = models.CharField(_("channel"), max_length=16)
    recipients = models.CharField(_("to"), max_length=500, blank=True)
    subject = models.CharField(_("subject"), max_length=300)
    # "" and null: a report, not of one letter. No foreign key: the row outlives the letter.
    fingerprint = models.CharField(_("error"), max_length=32, blank=True)
    dead_letter_id = models.BigIntegerField(_("dead letter"), null=True)
    # How many deaths of the same error it spoke for besides.
    held_back = models.PositiveIntegerField(_("held back"), default=0)
    outcome = models.CharField(_("outcome"), max_length=8, choices=Outcome)
    problem = models.CharField(_("problem"), max_length=500, blank=True)

    class Meta:
        verbose_name = _("alert that was sent")
        verbose_name_plural = _("alerts that were sent")
        ordering = ("-at", "-id")
        default_permissions = ("view",)
        indexes = (
            models.Index(fields=["-at", "-id"], name="deliveries_newest"),
            models.Index(fields=["outcome", "-at"], name="deliveries_by_outcome"),
            models.Index(fields=["channel", "-at"], name="deliveries_by_channel"),
        )

    def __str__(self) -> str:
        return self.subject
