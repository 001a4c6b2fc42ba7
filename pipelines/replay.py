"""Replay what is dead of a run."""

from collections.abc import Collection

from django.contrib.auth.models import User

from deadletters.models import Redrive, State
from deadletters.redrive import redrive, tend
from deadletters.selection import Selection
from pipelines import runs
from pipelines.models import Run


def replay_dead(run: Run, *, by: User, origin: str = "", tasks: Collection[str] | None = None) -> Redrive:
    """Redrive every open dead letter of the run, or of these tasks of it; a few are sent at once, many by a worker.

    Raises:
        NotRedrivable: none is open.
    """
    letters = runs.letters(run).filter(state=State.OPEN)
    if tasks is not None:
        letters = letters.filter(task_id__in=tasks)
    numbers = tuple(letters.order_by("pk").values_list("pk", flat=True))
    if not numbers:
        raise redrive.NotRedrivable
    started = redrive.start(Selection(numbers=numbers), by=by, reason=str(run), origin=origin)
    tend.launch(started)
    return started
