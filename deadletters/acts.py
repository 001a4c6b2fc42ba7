"""The audit trail: every act of a person or a policy, one row each, however many letters it moved."""

from django.db import models
from django.utils.translation import gettext_lazy as _


class Act(models.Model):
    """Who did what to how many letters, why, and from where. Append-only, and PostgreSQL holds that (a trigger).

    It names its subjects by plain values, without foreign keys: it outlives the letters and the people.
    """

    class Verb(models.TextChoices):
        """What was done."""

        REPLAYED = "replayed", _("Replayed")
        EDITED = "edited", _("Edited and replayed")
        DISCARDED = "discarded", _("Discarded")
        RESTORED = "restored", _("Restored")
        PAYLOAD_READ = "payload_read", _("Read a payload")
        REDRIVE_STARTED = "redrive_started", _("Started a redrive")
        REDRIVE_PAUSED = "redrive_paused", _("Paused a redrive")
        REDRIVE_RESUMED = "redrive_resumed", _("Resumed a redrive")
        REDRIVE_CANCELLED = "redrive_cancelled", _("Cancelled a redrive")
        REDRIVE_STOPPED = "redrive_stopped", _("Stopped a redrive")
        ERROR_RESOLVED = "error_resolved", _("Resolved an error")
        ERROR_REOPENED = "error_reopened", _("Reopened an error")
        ERROR_DISCARDED = "error_discarded", _("Discarded an error")
        ERROR_NOTED = "error_noted", _("Wrote a note")
        ERROR_ASSIGNED = "error_assigned", _("Assigned an error")
        # Of no letter: by the rooms above this one.
        RUN_CANCELLED = "run_cancelled", _("Cancelled a run")
        QUEUE_PAUSED = "queue_paused", _("Paused a queue")
        QUEUE_RESUMED = "queue_resumed", _("Resumed a queue")
        TASK_REVOKED = "task_revoked", _("Revoked a task")
        TASK_TERMINATED = "task_terminated", _("Terminated a task")
        WORKER_STOPPED = "worker_stopped", _("Shut a worker down")

    at = models.DateTimeField(_("at"))
    verb = models.CharField(_("act"), max_length=24, choices=Verb)
    # A user's name, or what acted by itself ("policy", "redrive 12").
    who = models.CharField(_("who"), max_length=150, blank=True)
    # How many letters.
    number = models.PositiveIntegerField(_("letters"), default=0)
    reason = models.TextField(_("reason"), blank=True)
    # A page of the console, or a command and the user of the machine it ran on.
    origin = models.CharField(_("from"), max_length=255, blank=True)
    # Which letters, in words; for one letter its task. Else the run, queue, task or worker.
    subject = models.CharField(_("subject"), max_length=500, blank=True)

    dead_letter_id = models.BigIntegerField(_("dead letter"), null=True)  # null: not one letter
    fingerprint = models.CharField(_("error"), max_length=32, blank=True)
    root_id = models.CharField(_("workflow"), max_length=255, blank=True)
    redrive_id = models.BigIntegerField(_("redrive"), null=True)  # null: no redrive
    # What else is worth keeping: the difference of an edit, the filter of a bulk.
    details = models.JSONField(_("details"), default=dict)

    class Meta:
        verbose_name = _("act")
        verbose_name_plural = _("audit trail")
        ordering = ("-at", "-id")
        default_permissions = ("view",)
        indexes = (
            models.Index(fields=["-at", "-id"], name="acts_newest"),
            models.Index(fields=["who", "-at"], name="acts_by_person"),
            models.Index(fields=["verb", "-at"], name="acts_by_verb"),
            models.Index(fields=["dead_letter_id"], name="acts_of_letter", condition=~models.Q(dead_letter_id=None)),
            models.Index(fields=["fingerprint"], name="acts_of_error", condition=~models.Q(fingerprint="")),
            models.Index(fields=["root_id"], name="acts_of_run", condition=~models.Q(root_id="")),
            models.Index(fields=["redrive_id"], name="acts_of_redrive", condition=~models.Q(redrive_id=None)),
        )

    def __str__(self) -> str:
        return f"{self.get_verb_display()} {self.at:%Y-%m-%d %H:%M:%S}"


class Original(models.Model):
    """What a letter's message was before somebody edited it: kept, so that an edit can be undone by hand."""

    dead_letter = models.ForeignKey("deadletters.DeadLetter", models.CASCADE, related_name="originals")
    # The replay that went out with the edit.
    replay_number = models.PositiveIntegerField()
    edited_at = models.DateTimeField(auto_now_add=True)
    # As in the letter: plain, or sealed with the key of that time.
    headers = models.JSONField(default=dict)
    properties = models.JSONField(default=dict)
    body = models.BinaryField(default=b"")
    sealed = models.BinaryField(null=True)  # null: it is not sealed
    seal_key = models.CharField(max_length=16, blank=True)
    content_type = models.CharField(max_length=128, blank=True)
    content_encoding = models.CharField(max_length=64, blank=True)
    queue = models.CharField(max_length=255, blank=True)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.dead_letter_id} before replay {self.replay_number}"
