"""Where each step of a run stands, of what the results and the dead letters say; pure.

Celery writes FAILURE over everything downstream of a death (the chain's rest, the chord's body, and so on up). A step with such a
row, without a letter of its own and with something dead upstream, never ran: it is blocked, and a replay upstream sets it free.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from pipelines.graph import Node, branches


class State(StrEnum):
    """One step's state."""

    # It returned.
    SUCCEEDED = "succeeded"
    # A worker has it.
    RUNNING = "running"
    # It raised, and Celery will try it again.
    RETRYING = "retrying"
    # Its dead letter was sent again.
    REPLAYING = "replaying"
    # Its message will not be tried again unless a person replays it.
    DEAD = "dead"
    # It is dead, and somebody gave it up.
    DISCARDED = "discarded"
    # Something upstream is dead.
    BLOCKED = "blocked"
    # It was revoked, or the run was cancelled before it could run.
    CANCELLED = "cancelled"
    # Sent, and not begun yet; also what a worker has not told of.
    WAITING = "waiting"
    # Its turn has not come: something before it is not done. Or the broker never took it.
    UNSENT = "unsent"


class Overall(StrEnum):
    """A run's state."""

    WAITING = "waiting"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    # Nothing goes on without a person: something is dead.
    FAILED = "failed"
    CANCELLED = "cancelled"
    # The broker did not take it.
    NOT_SENT = "not_sent"


LABELS: Mapping[str, str | Promise] = {
    State.SUCCEEDED: _("succeeded"),
    State.RUNNING: _("running"),
    State.RETRYING: _("retrying"),
    State.REPLAYING: _("replaying"),
    State.DEAD: _("dead"),
    State.DISCARDED: _("discarded"),
    State.BLOCKED: _("blocked"),
    State.CANCELLED: _("cancelled"),
    State.WAITING: _("waiting"),
    State.UNSENT: _("not sent yet"),
    Overall.FAILED: _("failed"),
    Overall.NOT_SENT: _("not sent"),
}

# One sentence a state, shown where the state is.
MEANING: Mapping[State, str | Promise] = {
    State.SUCCEEDED: _("It returned."),
    State.RUNNING: _("A worker has it."),
    State.RETRYING: _("It raised, and Celery will try it again by itself."),
    State.REPLAYING: _("Its dead letter was sent again; the outcome is not known yet."),
    State.DEAD: _("It will not be tried again unless a person replays its dead letter."),
    State.DISCARDED: _("It died, and somebody gave it up."),
    State.BLOCKED: _("Something before it is dead. A replay there sets it free."),
    State.CANCELLED: _("It was cancelled before it could run."),
    State.WAITING: _("It is in a queue, and no worker has begun it."),
    State.UNSENT: _("Its turn has not come: something before it is not done."),
}

ACTIVE = (State.RUNNING, State.RETRYING, State.REPLAYING)
# Of many steps drawn as one, the first of these that occurs is the colour.
LOUDEST = (
    State.DEAD,
    *reversed(ACTIVE),
    State.WAITING,
    State.UNSENT,
    State.DISCARDED,
    State.CANCELLED,
    State.BLOCKED,
    State.SUCCEEDED,
)


class Flow(IntEnum):
    """What comes down to a step from before it; of several, the greatest."""

    DONE = 0
    UNFINISHED = 1
    CANCELLED = 2
    BLOCKED = 3


FLOW_AFTER = {
    State.SUCCEEDED: Flow.DONE,
    State.DEAD: Flow.BLOCKED,
    State.DISCARDED: Flow.BLOCKED,
    State.BLOCKED: Flow.BLOCKED,
    State.CANCELLED: Flow.CANCELLED,
}

OF_LETTER = {"open": State.DEAD, "replaying": State.REPLAYING, "discarded": State.DISCARDED}
OF_RESULT = {"SUCCESS": State.SUCCEEDED, "STARTED": State.RUNNING, "REVOKED": State.CANCELLED}
OF_FLOW = {Flow.BLOCKED: State.BLOCKED, Flow.CANCELLED: State.CANCELLED, Flow.UNFINISHED: State.UNSENT}
# What may still begin without a person.
TO_COME = (State.WAITING, State.UNSENT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known of a run's tasks."""

    # {task id: Celery's status}; a task without a row has none.
    results: Mapping[str, str]
    # {task id: state of its dead letter}; "resolved" ones don't matter.
    letters: Mapping[str, str]
    # What has not begun never will: somebody cancelled the run, or the broker did not take it. The state of such steps.
    stopped: State | None = None


def states_of(tree: Node, facts: Facts) -> dict[str, State]:
    """{task id: state} of every task of the tree, in order."""
    found: dict[str, State] = {}
    _walk(tree, Flow.DONE, facts, found)
    return found


def _walk(node: Node, before: Flow, facts: Facts, found: dict[str, State]) -> Flow:
    if node["kind"] == "task":
        status, letter = (known.get(node["task_id"]) for known in (facts.results, facts.letters))
        state = found[node["task_id"]] = state_of(status, letter, before, stopped=facts.stopped)
        return FLOW_AFTER.get(state, Flow.UNFINISHED)
    if node["kind"] == "chain":
        for child in branches(node):
            before = _walk(child, before, facts, found)
        return before
    parallel = node["header"] if node["kind"] == "chord" else node["children"]
    after = max((_walk(child, before, facts, found) for child in parallel), default=before)
    return _walk(node["body"], after, facts, found) if node["kind"] == "chord" else after


def state_of(status: str | None, letter: str | None, before: Flow, *, stopped: State | None) -> State:
    """One step's state, of its Celery status, its letter's state and what comes down to it."""
    known = OF_LETTER.get(letter or "") or OF_RESULT.get(status or "")
    if known:
        return known
    if status == "FAILURE" and before is Flow.DONE:
        return State.DEAD  # its letter is on the way
    if stopped:
        return stopped
    if status == "RETRY":
        return State.RETRYING
    return OF_FLOW.get(before, State.WAITING)


def flow_of(rows: Iterable[tuple[str | None, str | None]]) -> Flow:
    """The worst that any of these (status, letter) may send down, where the tree is not at hand."""
    flow = Flow.DONE
    for status, letter in rows:
        if letter in OF_LETTER:
            flow = max(flow, FLOW_AFTER.get(OF_LETTER[letter], Flow.UNFINISHED))
        elif status == "REVOKED":
            flow = max(flow, Flow.CANCELLED)
    return flow


def overall(counts: Mapping[State, int], *, cancelled: bool = False, problem: bool = False) -> Overall:
    """The run's state, of how many steps are in which."""
    present = {state for state, number in counts.items() if number}
    if present <= {State.SUCCEEDED}:
        return Overall.SUCCEEDED
    if present & set(ACTIVE):
        return Overall.RUNNING
    # Whoever sent it may have ended with all of it sent and nothing noted: then what its tasks did is the truth.
    if problem and present & set(TO_COME):
        return Overall.NOT_SENT
    if present & set(TO_COME):
        return Overall.WAITING if present <= set(TO_COME) else Overall.RUNNING
    if not cancelled and present & {State.DEAD, State.DISCARDED}:
        return Overall.FAILED
    return Overall.CANCELLED if State.CANCELLED in present else Overall.FAILED


def loudest(counts: Mapping[State, int]) -> State:
    """The state of many steps that are drawn as one."""
    if counts.get(State.SUCCEEDED) and any(map(counts.get, TO_COME)) and not counts.get(State.DEAD):
        return next((state for state in reversed(ACTIVE) if counts.get(state)), State.RUNNING)
    return next(state for state in LOUDEST if counts.get(state))


def percent(counts: Counter[State]) -> int:
    """How much has succeeded, in whole percent; 100 only when all has."""
    return counts[State.SUCCEEDED] * 100 // max(counts.total(), 1)
