"""Random canvases whose every task is known before it is sent: its id, what it waits for, what it must be given."""

import itertools
import random
import uuid
from dataclasses import dataclass, field
from typing import Any

from celery import chain, chord, group

from tests.chaos import tasks

# (behaviour, weight): most tasks of a healthy platform succeed.
BEHAVIOURS = {"ok": 60, "slow": 10, "raises": 12, "retries": 8, "vanishes": 4, "exits": 3}


@dataclass(kw_only=True)
class Planned:
    """One task of the plan."""

    task_id: str
    label: str
    behaviour: str
    kind: str
    upstream: list["Planned"] = field(default_factory=list)
    # What it has to be called with when all that is upstream succeeded.
    expects: list[Any] = field(default_factory=list)


@dataclass(kw_only=True)
class Plan:
    """One canvas, and whether the broker took it."""

    shape: str
    canvas: Any
    planned: list[Planned]
    # None: not sent yet; False: the sender was told that it could not be sent (some of it may be on its way).
    accepted: bool | None = None


class Planner:
    """Makes plans from a seeded chance."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.numbers = itertools.count(1)

    def plan(self) -> Plan:
        shape = self.chance.choices(["single", "chain", "group", "chord", "chord of chains"], [5, 3, 2, 3, 2])[0]
        canvas, planned = getattr(self, f"_{shape.replace(' ', '_')}")()
        return Plan(shape=shape, canvas=canvas, planned=planned)

    def _task(self, upstream: list[Planned], expects: list[Any]) -> tuple[Any, Planned]:
        behaviour = self.chance.choices(list(BEHAVIOURS), list(BEHAVIOURS.values()))[0]
        kind = "early" if self.chance.random() < 0.25 else "late"
        planned = Planned(
            task_id=str(uuid.UUID(int=self.chance.getrandbits(128), version=4)),
            label=f"t{next(self.numbers)}",
            behaviour=behaviour,
            kind=kind,
            upstream=upstream,
            expects=expects,
        )
        signature = getattr(tasks, kind).s(label=planned.label, behaviour=behaviour).set(task_id=planned.task_id)
        return signature, planned

    def _single(self) -> tuple[Any, list[Planned]]:
        signature, planned = self._task([], [])
        return signature, [planned]

    def _steps(self, length: int) -> tuple[list[Any], list[Planned]]:
        signatures: list[Any] = []
        planned: list[Planned] = []
        for _ in range(length):
            before = planned[-1:]
            signature, step = self._task(list(before), [task.label for task in before])
            signatures.append(signature)
            planned.append(step)
        return signatures, planned

    def _chain(self) -> tuple[Any, list[Planned]]:
        signatures, planned = self._steps(self.chance.randint(2, 4))
        return chain(*signatures), planned

    def _group(self) -> tuple[Any, list[Planned]]:
        members = [self._task([], []) for _ in range(self.chance.randint(2, 4))]
        return group(signature for signature, _ in members), [planned for _, planned in members]

    def _chord(self) -> tuple[Any, list[Planned]]:
        return self._chord_of([self._steps(1) for _ in range(self.chance.randint(2, 4))])

    def _chord_of_chains(self) -> tuple[Any, list[Planned]]:
        return self._chord_of([self._steps(self.chance.randint(2, 3)) for _ in range(self.chance.randint(2, 3))])

    def _chord_of(self, members: list[tuple[list[Any], list[Planned]]]) -> tuple[Any, list[Planned]]:
        header = [chain(*signatures) if len(signatures) > 1 else signatures[0] for signatures, _ in members]
        lasts = [planned[-1] for _, planned in members]
        body, last = self._task(lasts, [[task.label for task in lasts]])
        return chord(header, body), [*(task for _, planned in members for task in planned), last]
