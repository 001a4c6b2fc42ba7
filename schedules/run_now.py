"""Send a schedule's message now, once, beside its times."""

from celery import current_app
from django.contrib.auth.models import User
from django.utils import timezone
from django.utils.translation import gettext as _
from kombu.exceptions import OperationalError

from schedules.calls import import_tasks
from schedules.edit import record
from schedules.message import Unusable, compose
from schedules.models import Schedule


class NotRun(Exception):
    """Nothing was sent. str() says why and what to do."""


def run_now(schedule: Schedule, *, by: User) -> str:
    """Send exactly what beat would send (queue, priority, headers, expiry) and record it. Returns the task's id.

    Raises:
        NotRun: beat could not send it either, it has ended, or the broker does not answer.
    """
    try:
        schedule.check_usable()
        message = compose(schedule)
    except Unusable as problem:
        raise NotRun(_("“%(name)s” was not sent: %(reason)s") % {"name": schedule.name, "reason": problem}) from None
    if schedule.expires and schedule.expires <= timezone.now():
        raise NotRun(_("“%s” was not sent: it has ended, and its messages expire at once.") % schedule.name)
    import_tasks()  # a known task brings its own queue and limits, also when beat sends it
    task = current_app.tasks.get(message.task)
    try:
        if task:
            result = task.apply_async(tuple(message.args), message.kwargs, **message.options)
        else:
            result = current_app.send_task(message.task, message.args, message.kwargs, **message.options)
    except OperationalError:
        raise NotRun(
            _("“%s” was not sent: the broker does not answer. Try again when it is back.") % schedule.name
        ) from None
    record(schedule, by, f"Run now, as task {result.id}.")
    return str(result.id)
