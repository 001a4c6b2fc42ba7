"""What becomes of the due times of one schedule: pure decisions by its policy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from schedules.history import LATE, State
from schedules.policy import Missed, Overlap
from schedules.reasons import Reason, reason

# What could be sent this soon after it was due was not missed, whatever the policy: another beat took over meanwhile.
TOLERANCE = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """A policy, as far as due times are concerned. The defaults are those of a schedule without one. Moments are epoch seconds."""

    overlap: str = Overlap.ALLOW
    missed: str = Missed.ONCE
    catch_up_limit: int = 100
    grace: int | None = None
    paused_to: float | None = None  # when its last pause ended: what is due up to then is not caught up
    pause_reason: str = ""
    pause_why: Sequence[Reason] = ()  # of a pause that beat made
    ends: float | None = None  # from then on its messages expire at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What is known of the runs before."""

    alive: bool = False
    waiting: bool = False
    failing: int = 0  # so many of the last runs failed that it is paused from now on


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One row of the ledger."""

    due_at: float
    state: State
    why: Sequence[Reason] = ()
    folded: int = 0


def decide(  # noqa: PLR0917  (what is due, and what is known)
    due: Sequence[float],
    count: int,
    now: float,
    rules: Rules,
    situation: Situation,
    ready: Sequence[float] | None = None,
) -> list[Verdict]:
    """What becomes of due times (the newest of `count`, oldest first), in order. `ready`: when each was to leave, if jitter put it off."""
    if due and rules.ends is not None and now >= rules.ends:
        return [_given_up(due, count - len(due), reason("ended"))]
    late = dict(zip(due, (now - at for at in ready or due), strict=True))
    verdicts, runs, folded = _sort_out(due, count, late, rules)
    alive, waiting = situation.alive, situation.waiting
    for due_at in runs:
        state, why = State.CLAIMED, list[Reason]()
        if situation.failing:
            state, why = State.SKIPPED, [reason("paused"), reason("failures", number=situation.failing)]
        elif alive and rules.overlap == Overlap.QUEUE and not waiting:
            state, waiting, why = State.WAITING, True, [reason("runs_after")]
        elif alive and rules.overlap != Overlap.ALLOW:
            state, why = State.SKIPPED, [reason("one_waits" if waiting else "alive")]
        else:
            alive = True
            if late[due_at] > LATE.total_seconds():
                why.append(reason("late", seconds=round(late[due_at], 1)))
            if folded:
                why.append(reason("stands_for", number=folded))
        verdicts.append(Verdict(due_at=due_at, state=state, why=why, folded=folded))
        folded = 0
    return verdicts


def _sort_out(
    due: Sequence[float], count: int, late: Mapping[float, float], rules: Rules
) -> tuple[list[Verdict], list[float], int]:
    """What is not run at all, what is, and how many missed ones the first of these stands for; `late`: each one's lateness in seconds."""
    verdicts: list[Verdict] = []
    unseen = count - len(due)
    paused = [at for at in due if _in_pause(at, rules)]
    if paused:
        by_beat = [reason("in_pause_of_beat"), *rules.pause_why]
        why = by_beat if rules.pause_why else [reason("in_pause", text=rules.pause_reason)]
        verdicts.append(Verdict(due_at=paused[-1], state=State.SKIPPED, why=why, folded=unseen + len(paused) - 1))
        unseen = 0
    rest = [at for at in due if not _in_pause(at, rules)]
    prompt = [at for at in rest if late[at] <= TOLERANCE]
    missed = [at for at in rest if late[at] > TOLERANCE]
    too_late = [at for at in missed if rules.grace is not None and late[at] > rules.grace]
    missed = missed[len(too_late) :]
    if too_late:
        verdicts.append(_given_up(too_late, unseen, reason("too_late", seconds=rules.grace or 0)))
        unseen = 0
    if not missed or rules.missed == Missed.SKIP:
        if missed:
            verdicts.append(_given_up(missed, unseen, reason("missed")))
            unseen = 0
        return verdicts, prompt, unseen
    if rules.missed == Missed.ALL:
        kept = missed[-rules.catch_up_limit :] if rules.catch_up_limit else []
        dropped = missed[: len(missed) - len(kept)]
        if dropped or unseen:
            limit = reason("too_many", number=rules.catch_up_limit)
            # Of those that were not even looked at, the newest lies somewhere before.
            verdicts.append(
                _given_up(dropped, unseen, limit) if dropped else _given_up([due[0] - 0.001], unseen - 1, limit)
            )
        return verdicts, [*kept, *prompt], 0
    if prompt:
        return verdicts, prompt, unseen + len(missed)
    return verdicts, missed[-1:], unseen + len(missed) - 1


def _given_up(due: Sequence[float], unseen: int, why: Reason) -> Verdict:
    return Verdict(due_at=due[-1], state=State.MISSED, why=[why], folded=unseen + len(due) - 1)


def _in_pause(due_at: float, rules: Rules) -> bool:
    return rules.paused_to is not None and due_at <= rules.paused_to
