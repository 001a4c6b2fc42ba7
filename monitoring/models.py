"""What the monitoring remembers: which error was told about when, and when beat was last heard of."""

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
