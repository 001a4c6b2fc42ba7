"""What the monitoring remembers: which error was told about when."""

from django.db import models
from django.utils.translation import gettext_lazy as _


class Alert(models.Model):
    """The last alert about one error; holds back the next one until ALERT_EVERY seconds have passed."""

    fingerprint = models.CharField(_("fingerprint"), max_length=32, unique=True)
    last_sent_at = models.DateTimeField(_("last sent"))
    # Letters that died since the last alert and were not told about one by one.
    held_back = models.PositiveIntegerField(_("held back"), default=0)

    class Meta:
        verbose_name = _("alert")
        verbose_name_plural = _("alerts")
        default_permissions = ("view",)

    def __str__(self) -> str:
        return self.fingerprint
