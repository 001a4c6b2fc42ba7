"""Dead letters, and the trail of what happened to each."""

import uuid
from typing import ClassVar

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

# What the id of a letter begins with whose message named no task id.
NO_TASK_ID = "message:"


class Cause(models.TextChoices):
    """How a message came to its end (`failures.md` has the whole matrix)."""

    # The task raised; also the last exception of an exhausted retry.
    EXCEPTION = "exception", _("Exception")
    # `self.retry()` without an exception, once too often.
    RETRIES_EXHAUSTED = "retries_exhausted", _("Retries exhausted")
    # The task was told to stop and did not handle it.
    SOFT_TIME_LIMIT = "soft_time_limit", _("Soft time limit")
    # The task's process was killed for taking too long.
    HARD_TIME_LIMIT = "hard_time_limit", _("Hard time limit")
    # The task's process vanished: out of memory, a crash, `sys.exit`.
    WORKER_LOST = "worker_lost", _("Worker lost")
    # The task could not get the memory it asked for.
    MEMORY_ERROR = "memory_error", _("Out of memory")
    # The task ran, but what it returned is not JSON.
    RESULT_ENCODE = "result_encode", _("Result not encodable")
    # The task refused its own message.
    REJECTED = "rejected", _("Rejected")
    # The next try, the chain's next step or a callback could not be sent.
    PUBLISH_FAILED = "publish_failed", _("Could not publish")
    # A worker that was told to stop at once had already acknowledged the message.
    CANCELLED_BY_SHUTDOWN = "cancelled_by_shutdown", _("Cancelled by shutdown")
    # It waited longer than `expires` allows.
    EXPIRED = "expired", _("Expired")
    # It was begun too often without coming to an end: each time its worker or its process was lost.
    POISON = "poison", _("Poison")
    # An operator revoked or terminated it; a letter only where DEADLETTERS_KEEP_REVOKED says so.
    REVOKED = "revoked", _("Revoked")
    # No worker here knows the task's name.
    UNKNOWN_TASK = "unknown_task", _("Unknown task")
    # The body is not what its content type says, or of a type we don't accept.
    UNDECODABLE = "undecodable", _("Undecodable")
    # A task message with a field that makes no sense (eta, expires, time limit …).
    INVALID = "invalid", _("Invalid")
    # A message of another protocol.
    UNKNOWN_MESSAGE = "unknown_message", _("Not a task message")


class State(models.TextChoices):
    """Where a letter stands. open -> replaying -> resolved; replaying -> open; open -> discarded -> open."""

    # Waits for somebody to replay or discard it.
    OPEN = "open", _("Open")
    # Sent back to its queue; the outcome is not known yet.
    REPLAYING = "replaying", _("Replaying")
    # A replay succeeded.
    RESOLVED = "resolved", _("Resolved")
    # Given up on purpose, with a reason.
    DISCARDED = "discarded", _("Discarded")


class DeadLetterQuerySet(models.QuerySet["DeadLetter"]):
    """The questions that the screens and the commands ask."""

    def open(self) -> "DeadLetterQuerySet":
        """Letters that wait for somebody."""
        return self.filter(state=State.OPEN)


class DeadLetter(models.Model):
    """One task that died, with the message it died of: everything that is needed to send it again."""

    # Celery's id; a replay keeps it, so there is one letter a task. For bytes without an id: "message:<uuid>".
    task_id = models.CharField(_("task id"), max_length=255)
    task_name = models.CharField(_("task"), max_length=255)
    state = models.CharField(_("state"), max_length=12, choices=State, default=State.OPEN)
    cause = models.CharField(_("cause"), max_length=24, choices=Cause)
    # Groups letters of one bug: a digest of task, exception type, normalised message and call site.
    fingerprint = models.CharField(_("fingerprint"), max_length=32, blank=True)

    exception_type = models.CharField(_("exception"), max_length=255, blank=True)
    exception_message = models.TextField(_("message"), blank=True)
    traceback = models.TextField(_("traceback"), blank=True)
    worker = models.CharField(_("worker"), max_length=255, blank=True)
    retries = models.PositiveIntegerField(_("retries"), default=0)
    received_at = models.DateTimeField(_("received"), null=True)  # null: it never reached a task
    started_at = models.DateTimeField(_("started"), null=True)  # null: it never ran
    died_at = models.DateTimeField(_("died"))
    deaths = models.PositiveIntegerField(_("deaths"), default=1)
    # Counts replays; travels in the message and fences off late duplicates of older attempts.
    replay_number = models.PositiveIntegerField(_("replays"), default=0)
    # Of the newest replay: when it was claimed (null: never, or taken back), when the broker confirmed it (null: not known to be
    # sent), and which copy of its message a worker has begun.
    claimed_at = models.DateTimeField(_("claimed"), null=True)
    sent_at = models.DateTimeField(_("sent"), null=True)
    started_copy = models.UUIDField(_("started copy"), null=True)

    # The envelope: the message itself, byte for byte.
    headers = models.JSONField(_("headers"), default=dict)
    properties = models.JSONField(_("properties"), default=dict)
    body = models.BinaryField(_("body"), default=b"")
    content_type = models.CharField(_("content type"), max_length=128, blank=True)
    content_encoding = models.CharField(_("content encoding"), max_length=64, blank=True)
    exchange = models.CharField(_("exchange"), max_length=255, blank=True)
    routing_key = models.CharField(_("routing key"), max_length=255, blank=True)
    queue = models.CharField(_("queue"), max_length=255, blank=True)
    priority = models.PositiveSmallIntegerField(_("priority"), null=True)  # null: the broker's default

    # With DEADLETTERS_KEYS the three above are empty, and here, encrypted; the id of the key beside it. Read them with `Envelope.of`.
    sealed = models.BinaryField(_("sealed payload"), null=True)  # null: it is not sealed
    seal_key = models.CharField(_("key"), max_length=16, blank=True, db_default="")
    # {task: [names and positions]} of the arguments to mask, as the worker knew them: {"shop.pay": ["holder", 0]}.
    secret_arguments = models.JSONField(_("secret arguments"), default=dict, db_default={})
    # False: there were too many letters of this error (DEADLETTERS_KEEP_PER_ERROR, DEADLETTERS_KEEP_PAYLOADS_PER_ERROR).
    traceback_kept = models.BooleanField(_("traceback kept"), default=True, db_default=True)
    payload_kept = models.BooleanField(_("payload kept"), default=True, db_default=True)

    # Where in its workflow the task stood.
    root_id = models.CharField(_("root id"), max_length=255, blank=True)
    parent_id = models.CharField(_("parent id"), max_length=255, blank=True)
    group_id = models.CharField(_("group id"), max_length=255, blank=True)

    objects: ClassVar[DeadLetterQuerySet] = DeadLetterQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        verbose_name = _("dead letter")
        verbose_name_plural = _("dead letters")
        ordering = ("-died_at", "-id")
        default_permissions = ("view",)
        permissions = (
            ("replay_deadletter", "Can replay dead letters"),
            ("edit_deadletter", "Can edit dead letters and replay them"),
            ("discard_deadletter", "Can discard dead letters"),
            ("view_payload", "Can read the unmasked payload of dead letters"),
        )
        # Not `unique=True`: Django adds a second index for LIKE to that, which nobody asks and every claim would write.
        constraints = (models.UniqueConstraint(fields=["task_id"], name="letters_one_a_task"),)
        indexes = (
            # Named after the screen that asks.
            models.Index(fields=["-died_at", "-id"], name="letters_newest"),
            models.Index(fields=["-died_at", "-id"], name="letters_open_newest", condition=models.Q(state="open")),
            models.Index(fields=["fingerprint", "state", "-died_at"], name="letters_by_error"),
            models.Index(fields=["task_name", "-died_at"], name="letters_by_task"),
            models.Index(fields=["cause", "-died_at"], name="letters_by_cause"),
            models.Index(fields=["queue", "-died_at"], name="letters_by_queue"),
            models.Index(fields=["state", "-died_at"], name="letters_by_state"),
            models.Index(fields=["root_id"], name="letters_of_run", condition=~models.Q(root_id="")),
            models.Index(
                fields=["claimed_at"],
                name="letters_unsent",
                condition=models.Q(claimed_at__isnull=False, sent_at__isnull=True),
            ),
            models.Index(
                fields=["fingerprint", "state"],
                name="letters_not_kept",
                condition=models.Q(traceback_kept=False) | models.Q(payload_kept=False),
            ),
        )

    def __str__(self) -> str:
        return f"{self.task_name or self.get_cause_display()} {self.task_id}"


class Event(models.Model):
    """One line of a letter's trail. Append-only: nothing here is ever changed."""

    class Kind(models.TextChoices):
        """What happened to the letter."""

        DIED = "died", _("Died")
        REPLAYED = "replayed", _("Replayed")
        EDITED = "edited", _("Edited and replayed")
        SUCCEEDED = "succeeded", _("Succeeded")
        NOT_SENT = "not_sent", _("Replay not sent")
        DISCARDED = "discarded", _("Discarded")
        RESTORED = "restored", _("Restored")
        READ = "read", _("Payload read")

    dead_letter = models.ForeignKey(DeadLetter, models.CASCADE, related_name="events", verbose_name=_("dead letter"))
    kind = models.CharField(_("kind"), max_length=12, choices=Kind)
    at = models.DateTimeField(_("at"))
    replay_number = models.PositiveIntegerField(_("replay number"), default=0)
    # null: the platform did it, no person.
    actor = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+", verbose_name=_("by")
    )
    # The death's or the reason's words.
    text = models.TextField(_("text"), blank=True)
    # Idempotency key of one death: whatever delivers it twice is refused by the constraint.
    death_id = models.UUIDField(_("death id"), null=True, unique=True)

    class Meta:
        verbose_name = _("event")
        verbose_name_plural = _("events")
        ordering = ("at", "id")
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {self.at:%Y-%m-%d %H:%M:%S}"


class BegunCopy(models.Model):
    """Which copy of a message a worker has begun, where several may have been sent; see copies.py."""

    task_id = models.CharField(_("task id"), max_length=255, primary_key=True)
    copy = models.UUIDField(_("copy"))
    begun_at = models.DateTimeField(_("begun"), db_index=True)

    class Meta:
        verbose_name = _("begun copy")
        verbose_name_plural = _("begun copies")
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.task_id} {self.copy}"


def new_death_id() -> uuid.UUID:
    """The idempotency key of one death."""
    return uuid.uuid4()


# At the end: they name the classes above.
from deadletters.acts import Act, Original  # noqa: E402
from deadletters.groups import ErrorGroup  # noqa: E402
from deadletters.redrives import Redrive, RedriveItem  # noqa: E402

# The tables that workers keep for themselves: Django finds models through this module.
from deadletters.workers import EarlyStart, Starts, Worker  # noqa: E402, F401

__all__ = [
    "NO_TASK_ID", "Act", "Cause", "DeadLetter", "DeadLetterQuerySet", "ErrorGroup", "Event", "Original", "Redrive", "RedriveItem", "State",
    "new_death_id",
]  # fmt: skip
