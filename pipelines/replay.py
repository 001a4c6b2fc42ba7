"""Replay what is dead of a run."""

from django.contrib.auth.models import User

from deadletters import redrive, tend
from deadletters.models import DeadLetter, Redrive
from deadletters.selection import Selection
from pipelines.models import Run


def replay_dead(run: Run, *, by: User, origin: str = "") -> Redrive:
    """Redrive every open dead letter of the run; a few are sent at once, many by a worker.

    Raises:
        NotRedrivable: none is open.
    """
    letters = DeadLetter.objects.open().filter(task_id__in=run.steps.values("task_id"))
    ids = tuple(str(pk) for pk in letters.order_by("pk").values_list("pk", flat=True))
    if not ids:
        raise redrive.NotRedrivable
    started = redrive.start(Selection(ids=ids), by=by, reason=str(run), origin=origin)
    tend.launch(started)
    return started
