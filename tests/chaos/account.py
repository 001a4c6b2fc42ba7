"""What became of every task: the platform's rows beside the ledger."""

import contextlib
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from django.db import OperationalError, connection
from django.db.models import Count
from django_celery_results.models import TaskResult

from deadletters.models import DeadLetter, Event, State
from tests.chaos.canvases import Plan, Planned
from tests.chaos.ledger import Ledger

# A task that ended as one of these is accounted for.
ENDS = ("succeeded", "dead", "blocked")
# What must not be: the lists of Account below.
WRONGS = ("lost", "silent", "doubled", "slandered", "mixed")


@dataclass
class Account:
    """How many tasks ended how, and what is wrong with those that are not accounted for."""

    ends: dict[str, int] = field(default_factory=dict)
    # No trace of an accepted task, or it neither ended nor waits for anything.
    lost: list[str] = field(default_factory=list)
    # It ran and failed, and no letter says so.
    silent: list[str] = field(default_factory=list)
    # More deaths are noted than there were letters opened, or two letters of one task.
    doubled: list[str] = field(default_factory=list)
    # It finished, and an open letter says that it is dead.
    slandered: list[str] = field(default_factory=list)
    # It finished with other values than its workflow should have given it.
    mixed: list[str] = field(default_factory=list)

    @property
    def wrong(self) -> dict[str, list[str]]:
        return {name: found for name in WRONGS if (found := getattr(self, name))}


def take(plans: Iterable[Plan], ledger: Ledger) -> Account:
    """The account as it stands now."""
    plans = [plan for plan in plans if plan.accepted]
    ids = [task.task_id for plan in plans for task in plan.planned]
    rows = dict(TaskResult.objects.filter(task_id__in=ids).values_list("task_id", "status"))
    letters = {
        letter.task_id: letter for letter in DeadLetter.objects.filter(task_id__in=ids).defer("body", "traceback")
    }
    account = Account(doubled=_doubled(ids))
    for plan in plans:
        ended: dict[str, str] = {}
        for task in plan.planned:
            ended[task.task_id] = end = _end(task, rows, letters, ledger, ended)
            name = end if end in ENDS else "unaccounted"
            account.ends[name] = account.ends.get(name, 0) + 1
            words = (
                f"{task.label} ({plan.shape}, {task.kind}, {task.behaviour}): {task.task_id} {rows.get(task.task_id)}"
            )
            if end not in ENDS:
                getattr(account, end).append(words)
            if end == "succeeded" and any(given != task.expects for given in ledger.received[task.task_id]):
                account.mixed.append(f"{words} {ledger.received[task.task_id]} instead of {task.expects}")
    return account


def _end(
    task: Planned, rows: dict[str, str], letters: dict[str, DeadLetter], ledger: Ledger, ended: dict[str, str]
) -> str:
    letter, status = letters.get(task.task_id), rows.get(task.task_id)
    shown_dead = letter is not None and letter.state != State.RESOLVED
    if status == "SUCCESS":
        if not ledger.finished(task.task_id):
            return "lost"
        return "slandered" if shown_dead else "succeeded"
    if shown_dead:
        return "dead" if letter.state == State.OPEN else "lost"
    if any(ended[before.task_id] in {"dead", "blocked"} for before in task.upstream):
        return "lost" if ledger.began(task.task_id) else "blocked"
    return "silent" if status in {"FAILURE", "REVOKED"} else "lost"


def _doubled(ids: list[str]) -> list[str]:
    deaths = Event.objects.filter(kind=Event.Kind.DIED, dead_letter__task_id__in=ids)
    twice = deaths.values("dead_letter__task_id", "replay_number").annotate(number=Count("pk")).filter(number__gt=1)
    return [f"{row['dead_letter__task_id']}: {row['number']} deaths of replay {row['replay_number']}" for row in twice]


def settled(plans: Iterable[Plan], ledger_of: object, patience: float) -> Account:
    """The account when nothing is missing any more, or as it is after `patience` seconds."""
    deadline = time.monotonic() + patience
    while True:
        with contextlib.suppress(OperationalError):
            account = take(plans, ledger_of())  # type: ignore[operator]
            if not (account.lost or account.silent or account.slandered) or time.monotonic() > deadline:
                return account
        connection.close()
        time.sleep(1)
