"""Send a schedule's message now, once, beside its times."""

import logging
from uuid import UUID, uuid4

from celery import current_app
from django.contrib.auth.models import User
from django.db import DatabaseError, InterfaceError, transaction
from django.utils import timezone
from django.utils.translation import gettext as _
from kombu.exceptions import OperationalError

from schedules import trail
from schedules.calls import import_tasks
from schedules.history import State
from schedules.message import COPY_HEADER, Message, Unusable, compose, refused_arguments
from schedules.models import Occurrence, Schedule
from schedules.publish import refusal
from schedules.reasons import plain, reason

logger = logging.getLogger(__name__)


class NotRun(Exception):
    """Nothing was sent. str() says why and what to do."""


def run_now(schedule: Schedule, *, by: User) -> str:
    """Send exactly what beat would send (queue, priority, headers, expiry) and record it. Returns the task's id.

    Raises:
        NotRun: beat could not send it either, it has ended, or the broker does not answer or refuses it.
    """
    try:
        schedule.check_usable()
        message = compose(schedule)
    except Unusable as problem:
        raise NotRun(_("“%(name)s” was not sent: %(reason)s") % {"name": schedule.name, "reason": problem}) from None
    if schedule.expires and schedule.expires <= timezone.now():
        raise NotRun(_("“%s” was not sent: it has ended, and its messages expire at once.") % schedule.name)
    import_tasks()  # a known task brings its own queue and limits, also when beat sends it
    task_id = uuid4()
    try:
        with transaction.atomic():  # what is not sent leaves no row
            trail.acted(schedule, by, "act_run", task=str(task_id))
            copy = str(uuid4())
            _note(schedule, by, task_id, copy)
            _send(message, str(task_id), copy)
    except TypeError as problem:
        raise NotRun(str(refused_arguments(message.task, problem))) from None
    except (DatabaseError, InterfaceError):
        raise
    except Exception as problem:
        why = refusal(problem)
        if isinstance(problem, OperationalError) and not why:
            raise NotRun(
                _("“%s” was not sent: the broker does not answer. Try again when it is back.") % schedule.name
            ) from None
        if not why:  # beat would refuse it as well
            logger.exception("schedule.not_run", extra={"schedule": schedule.name})
            why = f"{type(problem).__name__}: {problem}"
        raise NotRun(_("“%(name)s” was not sent: %(reason)s") % {"name": schedule.name, "reason": why}) from problem
    return str(task_id)


def _note(schedule: Schedule, by: User, task_id: UUID, copy: str) -> None:
    now, why = timezone.now(), [reason("run_now")]
    Occurrence.objects.create(
        id=task_id, schedule_id=schedule.pk, name=schedule.name, due_at=now, sent_at=now, state=State.SENT, by=by.get_username(),
        reason=plain(why), why=why, copy=copy,
    )  # fmt: skip


def _send(message: Message, task_id: str, copy: str) -> None:
    # With it the end of a task that stores no result is noted, as when beat sends it.
    options = {**message.options, "headers": {**message.options["headers"], COPY_HEADER: copy}, "task_id": task_id}
    if task := current_app.tasks.get(message.task):
        task.apply_async(tuple(message.args), message.kwargs, **options)
    else:
        current_app.send_task(message.task, message.args, message.kwargs, **options)
