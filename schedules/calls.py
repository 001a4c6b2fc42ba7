"""What a schedule calls: the registered tasks, and whether arguments fit one of them."""

import difflib
import inspect
from collections.abc import Mapping, Sequence
from functools import cache

from celery import current_app
from django.utils.translation import gettext as _

from schedules.models import Schedule


class BadCall(ValueError):
    """The task is unknown or cannot be called like this. `field` is what to mend: task, args or kwargs."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(reason)
        self.field = field


def known_tasks() -> list[str]:
    """Names of every registered task that a person may want to schedule, in order."""
    import_tasks()
    # Celery's own make no sense by themselves (celery.group), or delete results that an open letter needs (celery.backend_cleanup).
    return sorted(name for name in current_app.tasks if not name.startswith("celery."))


def check_task(name: str) -> None:
    """Whether it is registered.

    Raises:
        BadCall: it is not; with the names that look alike.
    """
    if name in known_tasks():
        return
    close = difflib.get_close_matches(name, known_tasks(), 3, cutoff=0.75)
    hint = _(" Did you mean %s?") % _(" or ").join(close) if close else ""
    raise BadCall("task", _("There is no task “%s”.") % name + hint)


def check_call(name: str, args: Sequence[object], kwargs: Mapping[str, object]) -> None:
    """Whether the task takes these arguments.

    Raises:
        BadCall: it does not; with its signature.
    """
    signature = inspect.signature(current_app.tasks[name].run)
    try:
        signature.bind(*args, **kwargs)
    except TypeError as problem:
        reason = str(problem)
        field = "kwargs" if "keyword" in reason or (kwargs and "missing" in reason) else "args"
        raise BadCall(
            field,
            _("%(task)s%(signature)s does not take this: %(reason)s.")
            % {"task": name, "signature": signature, "reason": reason},
        ) from None


def signature_of(name: str) -> str:
    """`(value, *, times=1)`, or nothing when there is no such task."""
    return str(inspect.signature(current_app.tasks[name].run)) if name in known_tasks() else ""


def known_queues() -> list[str]:
    """The default queue and every queue that a schedule names: what to offer, not what to insist on."""
    named = Schedule.objects.exclude(queue=None).values_list("queue", flat=True).distinct()
    return sorted({current_app.conf.task_default_queue, *named})


@cache
def import_tasks() -> None:
    """Import every task's module, as beat and workers do at start: a web process has sent tasks by name so far."""
    current_app.loader.import_default_modules()
