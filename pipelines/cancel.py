"""Cancel a run: what has not run yet will not."""

from datetime import datetime

from celery import current_app
from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _
from django_celery_results.models import TaskResult

from deadletters import audit
from deadletters.models import Act
from pipelines.models import Run, Step
from pipelines.runs import ENDED, progress
from pipelines.states import State

# A message to the workers names this many ids at most (36 bytes each).
REVOKE_AT_ONCE = 1_000
# Steps that a cancellation still keeps from running.
WAITS = (State.WAITING, State.UNSENT, State.RETRYING)
# Seconds for an answer of Redis: one that hangs must not hold whoever asks.
PATIENCE = {"socket_connect_timeout": 2, "socket_timeout": 5}


class NotCancellable(Exception):
    """There is nothing left to cancel. `run` is the run."""

    def __init__(self, run: Run) -> None:
        super().__init__(run)
        self.run = run

    def __str__(self) -> str:
        return _("Run %(run)s cannot be cancelled: nothing of it waits any more.") % {"run": self.run}


def cancel(run: Run, *, by: User | None, origin: str = "") -> int:
    """Tell the workers to drop what has not run yet, and record it; what runs now ends by itself. Returns how many steps.

    Raises:
        NotCancellable: nothing waits any more, or somebody was faster.
        kombu.exceptions.OperationalError: the broker does not answer; nothing is recorded.
    """
    states = progress(run).states
    if not any(state in WAITS for state in states.values()):
        raise NotCancellable(run)
    waiting = [task_id for task_id, state in states.items() if state in (*WAITS, State.BLOCKED)]
    # Before it is recorded: revoking twice does no harm, a run that only looks cancelled does.
    _revoke(waiting)
    now = timezone.now()
    with transaction.atomic():
        if not Run.objects.filter(pk=run.pk, cancelled_at=None).update(cancelled_at=now, cancelled_by=by):
            raise NotCancellable(run)
        audit.record(Act.Verb.RUN_CANCELLED, by=by, number=0, origin=origin, subject=str(run), root_id=str(run.pk))
    run.cancelled_at, run.cancelled_by = now, by
    return len(waiting)


def _revoke(task_ids: list[str]) -> None:
    options = PATIENCE if str(current_app.conf.broker_write_url or "").startswith("redis") else {}
    with current_app.connection_for_write(connect_timeout=2, transport_options=options) as broker:
        broker.ensure_connection(max_retries=1, interval_start=0, timeout=2)
        for first in range(0, len(task_ids), REVOKE_AT_ONCE):
            current_app.control.revoke(task_ids[first : first + REVOKE_AT_ONCE], connection=broker)


def cancelled_ids(since: datetime) -> list[str]:
    """Task ids that a cancellation since then must still keep from running: a worker that starts has not heard of them."""
    ended = TaskResult.objects.filter(status__in=ENDED).values("task_id")
    steps = Step.objects.filter(run__cancelled_at__gte=since).exclude(task_id__in=ended)
    return list(steps.order_by().values_list("task_id", flat=True))
