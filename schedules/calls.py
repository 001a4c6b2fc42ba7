"""What a schedule calls: the registered tasks, the queues that are listened to, and whether arguments fit a task."""

import difflib
import inspect
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import cache, lru_cache

from celery import current_app
from django.utils.translation import gettext as _
from kombu.exceptions import OperationalError

from schedules.models import Schedule

# Workers are asked only about a queue that nothing else knows, and only when a form is saved.
ASKING = 0.7  # seconds
REMEMBERED = 5.0  # seconds


class BadCall(ValueError):
    """The task or queue is unknown, or it cannot be called like this. `field` is what to mend: task, queue, args or kwargs."""

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
    if name not in known_tasks():
        raise BadCall("task", _("There is no task “%s”.") % name + _alike(name, known_tasks()))


def check_queue(name: str) -> None:
    """Whether the settings, a task or a worker that is up knows this queue.

    Raises:
        BadCall: none does, so its messages would lie there unread; with the names that look alike.
    """
    if name in configured_queues():
        return
    listened = _listened_queues(int(time.monotonic() // REMEMBERED))
    if name not in listened:
        known = sorted(configured_queues() | listened)
        hint = _alike(name, known) or _(" Known are: %s.") % ", ".join(known)
        raise BadCall("queue", _("No worker listens to a queue “%s”.") % name + hint)


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


def configured_queues() -> set[str]:
    """The queues of the settings and of the tasks themselves."""
    import_tasks()
    conf = current_app.conf
    named = {getattr(queue, "name", queue) for queue in conf.task_queues or ()}
    of_tasks = {getattr(task, "queue", None) for task in current_app.tasks.values()}
    routes = conf.task_routes if isinstance(conf.task_routes, Mapping) else {}
    routed = {route.get("queue") for route in routes.values() if isinstance(route, Mapping)}
    return {str(name) for name in {conf.task_default_queue, *named, *of_tasks, *routed} if name}


def offered_queues() -> list[str]:
    """What to offer while typing: configured queues, and those that schedules name already."""
    named = Schedule.objects.exclude(queue=None).order_by().values_list("queue", flat=True).distinct()[:200]
    return sorted({*configured_queues(), *named})


@cache
def import_tasks() -> None:
    """Import every task's module, as beat and workers do at start: a web process has sent tasks by name so far."""
    current_app.loader.import_default_modules()


@lru_cache(maxsize=1)
def _listened_queues(_now: int) -> frozenset[str]:
    """Asked once in REMEMBERED seconds: a file may name a queue a thousand times."""
    try:
        answers = current_app.control.inspect(timeout=ASKING).active_queues() or {}
    except (OperationalError, OSError):  # the broker is away, and so is every answer
        return frozenset()
    return frozenset(queue["name"] for queues in answers.values() for queue in queues)


def _alike(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, known, 3, cutoff=0.75)
    return _(" Did you mean %s?") % _(" or ").join(close) if close else ""
