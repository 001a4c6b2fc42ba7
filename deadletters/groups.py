"""Error groups: what all deaths of one bug have in common, and how far people are with it."""

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _


class ErrorGroup(models.Model):
    """One bug: a row a fingerprint, written in the same statement as its letters."""

    class State(models.TextChoices):
        """Where people are with the bug. open -> resolved -> regressed; open -> discarded -> open with its next death."""

        # Somebody has to look.
        OPEN = "open", _("Open")
        # A person says that it is fixed; the next death proves them wrong.
        RESOLVED = "resolved", _("Resolved")
        # Died again after it was resolved.
        REGRESSED = "regressed", _("Regressed")
        # Given up on purpose, letters and all.
        DISCARDED = "discarded", _("Discarded")

    fingerprint = models.CharField(_("fingerprint"), max_length=32, primary_key=True)
    state = models.CharField(_("state"), max_length=12, choices=State, default=State.OPEN)
    # Those of the newest death.
    task_name = models.CharField(_("task"), max_length=255, blank=True)
    exception_type = models.CharField(_("exception"), max_length=255, blank=True)
    message = models.CharField(_("message"), max_length=300, blank=True)
    cause = models.CharField(_("cause"), max_length=24)

    first_seen = models.DateTimeField(_("first seen"))
    last_seen = models.DateTimeField(_("last seen"))
    # All deaths there ever were, of letters that are pruned, too.
    deaths = models.BigIntegerField(_("deaths"), default=1)

    note = models.TextField(_("note"), blank=True)
    assignee = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+", verbose_name=_("assignee")
    )
    # null: nobody has moved it yet.
    changed_at = models.DateTimeField(_("changed"), null=True)

    class Meta:
        verbose_name = _("error")
        verbose_name_plural = _("errors")
        ordering = ("-last_seen",)
        default_permissions = ()
        permissions = (("triage_errorgroup", "Can resolve, reopen, assign and annotate errors"),)
        indexes = (models.Index(fields=["state", "-last_seen"], name="errors_by_state"),)

    def __str__(self) -> str:
        return (
            _("%(error)s in %(task)s") % {"error": self.name, "task": self.task_name} if self.task_name else self.name
        )

    @property
    def name(self) -> str:
        """The exception's type; the cause's name where nothing was raised."""
        from deadletters.models import Cause  # noqa: PLC0415  (models imports this module)

        return self.exception_type or str(Cause(self.cause).label)
