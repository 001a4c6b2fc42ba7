"""Who hears of a new dead letter, and how often."""

import logging
from datetime import timedelta
from typing import Any

from celery import current_app
from django.conf import settings
from django.db import connection
from django.db.models import F, OuterRef, Q, Subquery
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from kombu.exceptions import OperationalError

from deadletters.models import DeadLetter, ErrorGroup
from deadletters.secrets.redact import redactor
from monitoring import deliveries
from monitoring.models import Alert
from monitoring.notice import Notice, one_line

logger = logging.getLogger(__name__)

CHANNELS = {"monitoring.alert_slack": "slack", "monitoring.alert_mail": "mail"}
# Says anything on one of the channels; like them it does not alert of its own death.
TELL = "monitoring.tell"

# The row count is the referee between workers, the database's clock their common one: a row comes back to the one that may speak.
CLAIM = """
    INSERT INTO monitoring_alert AS alert (fingerprint, last_sent_at, held_back, told)
    VALUES (%(fingerprint)s, statement_timestamp(), 0, 0)
    ON CONFLICT (fingerprint) DO UPDATE
       SET last_sent_at = excluded.last_sent_at, told = alert.held_back, held_back = 0
     WHERE alert.last_sent_at <= excluded.last_sent_at - %(every)s
        -- An error that was resolved and is back is news, however short ago the last alert was.
        OR EXISTS (SELECT FROM deadletters_errorgroup error
                    WHERE error.fingerprint = alert.fingerprint AND error.state = 'regressed' AND error.changed_at > alert.last_sent_at)
    RETURNING told, (
        SELECT count(*) FROM (
            SELECT FROM monitoring_alert lately WHERE lately.last_sent_at > statement_timestamp() - %(every)s LIMIT %(most)s
        ) AS capped
    )
"""
HOLD_BACK = "UPDATE monitoring_alert SET held_back = held_back + 1 WHERE fingerprint = %(fingerprint)s"
# Nobody could be told: the claim goes back, so that the next death speaks for this one too.
GIVE_BACK = """
    UPDATE monitoring_alert
       SET held_back = held_back + told + %(untold)s, told = 0, last_sent_at = last_sent_at - %(every)s
     WHERE fingerprint = %(fingerprint)s
"""


# An announcement that has not come after so long was lost with its worker; of one that is older than that nobody waits for news.
LOST_AFTER, NEWS = timedelta(minutes=2), timedelta(hours=1)
# The heartbeat tells so many at once; and so many different errors are told of one by one within ALERT_EVERY.
AT_ONCE = MOST = 20
MANY = "many errors"


def alert(dead_letter: DeadLetter, *, counted: bool = False) -> bool:
    """Tell every configured channel of `dead_letter`, at most once per error in ALERT_EVERY seconds; returns whether it was told.

    Only publishes tasks: nothing here waits for Slack or a mail server. `counted`: the letter is one of those that were held back.
    """
    channels = _channels()
    # An alert that dies must not alert of its own death.
    if not channels or dead_letter.task_name in {*CHANNELS, TELL}:
        return False
    # Letters without a fingerprint never became a task; their cause groups them well enough.
    key = _key(dead_letter.fingerprint or dead_letter.cause, untold=0 if counted else 1)
    claimed = _claim(key)
    if claimed is None:
        if not counted:
            with connection.cursor() as cursor:
                cursor.execute(HOLD_BACK, key)
        return False
    held_back, lately = claimed
    if lately >= MOST:
        # A bad deploy, or messages that have nothing in common: thousands of alerts would be read by nobody.
        return tell(MANY, _of_many())
    return _send(key, [(name, (dead_letter.pk, max(0, held_back - counted))) for name in channels])


def catch_up() -> int:
    """Tell of errors with deaths that no alert spoke of, once ALERT_EVERY is over; returns of how many.

    The next death of an error speaks for those before it, but the last ones of all have no next one. Nor has the only one, where the
    broker was away when it was to be told, or its worker was killed in between.
    """
    if not _channels():
        return 0
    now, every = timezone.now(), timedelta(seconds=settings.ALERT_EVERY)
    waiting = Alert.objects.filter(held_back__gt=0, last_sent_at__lte=now - every)
    told_at = Alert.objects.filter(fingerprint=OuterRef("fingerprint")).values("last_sent_at")
    lost = (
        ErrorGroup.objects.filter(state__in=(ErrorGroup.State.OPEN, ErrorGroup.State.REGRESSED))
        .filter(last_seen__gt=now - NEWS, last_seen__lt=now - LOST_AFTER)
        .exclude(fingerprint="")
        .exclude(task_name__in={*CHANNELS, TELL})
        .annotate(told_at=Subquery(told_at))
        .filter(Q(told_at=None) | Q(told_at__lt=F("last_seen") - LOST_AFTER, told_at__lte=now - every))
    )
    errors = [rows.values_list("fingerprint", flat=True)[:AT_ONCE] for rows in (waiting, lost)]
    return sum(_speak_for(error) for error in dict.fromkeys([*errors[0], *errors[1]]))


def _speak_for(error: str) -> bool:
    """`error`: a fingerprint, or the cause of letters that have none."""
    letters = DeadLetter.objects.open().only("task_name", "fingerprint", "cause")
    for same in ({"fingerprint": error}, {"fingerprint": "", "cause": error}):  # each on an index of its own
        if newest := letters.filter(**same).order_by("-died_at").first():
            return alert(newest, counted=True)
    # Everything was replayed or discarded meanwhile: there is nothing left to tell.
    Alert.objects.filter(fingerprint=error).update(held_back=0)
    return False


def _channels() -> list[str]:
    """The tasks of the configured channels."""
    return [task for task, channel in CHANNELS.items() if deliveries.CHANNELS[channel].configured()]


def tell(what: str, notice: Notice) -> bool:
    """Tell every configured channel of something that is no letter, at most once in ALERT_EVERY seconds; returns whether it was told."""
    channels = _channels()
    key = _key(what)
    if not channels or _claim(key) is None:
        return False
    return _send(key, [(TELL, (name, notice.subject, notice.text, notice.link)) for name in channels])


def _send(key: dict[str, Any], messages: list[tuple[str, tuple[object, ...]]]) -> bool:
    try:
        for task, args in messages:
            current_app.send_task(task, args, ignore_result=True)
    except OperationalError:
        logger.exception("alert.not_published", extra={"fingerprint": key["fingerprint"]})
        with connection.cursor() as cursor:
            cursor.execute(GIVE_BACK, key)
        return False
    return True


def notice(dead_letter: DeadLetter, held_back: int = 0) -> Notice:
    """What is said about one letter: what died, of what, how many like it were held back, and where to look."""
    # Masked when it was stored; once more for names that are secret only since then.
    message = redactor().text(dead_letter.exception_message)
    error = one_line(": ".join(filter(None, (dead_letter.exception_type, message))))
    lines = [
        _("Task: %s") % (dead_letter.task_name or _("unknown")),
        _("Error: %s") % (error or _("none was recorded")),
        _("Cause: %s") % dead_letter.get_cause_display(),
    ]
    if held_back:
        lines.append(
            ngettext(
                "%d more died of the same error since the last alert.",
                "%d more died of the same error since the last alert.",
                held_back,
            )
            % held_back
        )
    what, subject = dead_letter.task_name or dead_letter.get_cause_display(), _("Dead letter: %s")
    regressed = ErrorGroup.objects.filter(pk=dead_letter.fingerprint, state=ErrorGroup.State.REGRESSED).first()
    if regressed is not None:
        subject = _("Regressed: %s")
        lines.append(_("This error was resolved, and is back."))
        if regressed.note:
            lines.append(_("Note: %s") % one_line(redactor().text(regressed.note)))
    return Notice(
        subject=one_line(subject % what, 120),
        text="\n".join(lines),
        link=link("deadletters_deadletter_change", dead_letter.pk),
    )


def deliver(name: str, dead_letter_id: int, held_back: int) -> None:
    """Send the notice of one letter through the channel of the task `name`; a letter that was deleted meanwhile is none.

    Raises:
        NotDeliveredYet, NotDelivered: as the channel says.
    """
    dead_letter = DeadLetter.objects.defer("traceback", "body", "sealed").filter(pk=dead_letter_id).first()
    if dead_letter is None:
        logger.info("alert.letter_is_gone", extra={"dead_letter": dead_letter_id})
        return
    deliveries.send(
        CHANNELS[name], notice(dead_letter, held_back), held_back=held_back, dead_letter_id=dead_letter.pk,
        fingerprint=dead_letter.fingerprint or dead_letter.cause,
    )  # fmt: skip
    logger.info("alert.sent", extra={"dead_letter": dead_letter_id, "held_back": held_back})


def link(view: str, *arguments: object) -> str:
    """The whole address of a page of the console, by its name in the admin: `link("deadletters_deadletter_change", 42)`."""
    return f"{settings.SITE_URL}{reverse(f'admin:{view}', args=arguments)}"


def _of_many() -> Notice:
    return Notice(
        subject=_("Many different errors at once"),
        text=_("%(number)d were told of one by one within %(seconds)d s; the others are in the list.")
        % {"number": MOST, "seconds": settings.ALERT_EVERY},
        link=link("deadletters_deadletter_by_error"),
    )


def _key(what: str, *, untold: int = 0) -> dict[str, Any]:
    """What the statements above ask for. `untold`: deaths that are not counted yet."""
    return {
        "fingerprint": what,
        "every": timedelta(seconds=settings.ALERT_EVERY),
        "most": MOST,
        "untold": untold,
    }


def _claim(key: dict[str, Any]) -> tuple[int, int] | None:
    """How many were held back before this one, and how many other errors were told of lately; None: this one just was."""
    with connection.cursor() as cursor:
        cursor.execute(CLAIM, key)
        row: tuple[int, int] | None = cursor.fetchone()
    return row
