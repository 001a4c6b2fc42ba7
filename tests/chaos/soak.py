"""Dispatch under fire, count what became of it, mend the causes, replay every letter, and count again."""

import contextlib
import random
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial

from django.db import connection

from deadletters.models import DeadLetter
from deadletters.replay.replay import NotReplayable, replay
from tests.chaos.account import Account, settled
from tests.chaos.canvases import Plan, Planner
from tests.chaos.ledger import read
from tests.chaos.monkey import ACTS, Monkey
from tests.chaos.stage import Stage

# Seconds after the last kill in which everything must have come to its end: workers' silence, sweeps, reconnections.
PATIENCE = 180


@dataclass(kw_only=True)
class Report:
    """What a soak found."""

    seed: int
    broker: str
    seconds: float
    canvases: int
    refused: int
    kills: dict[str, int]
    # After the fire; and after every cause was mended and every letter replayed.
    under_fire: Account
    replayed: Account
    # Tasks that finished more than once: at-least-once delivery is what Celery promises, so they are shown, not judged.
    repeated: int

    @property
    def passed(self) -> bool:
        left = sum(number for end, number in self.replayed.ends.items() if end != "succeeded")
        return not self.under_fire.wrong and not self.replayed.wrong and not left


def soak(
    stage: Stage,
    *,
    seed: int,
    seconds: float,
    pause: float,
    rate: float,
    kill: Collection[str] | None,
    say: Callable[[str], None],
) -> Report:
    """Run it. `pause`: seconds between two kills on average; `rate`: canvases a second; `kill`: only these acts, None: all."""
    chance = random.Random(seed)
    planner, monkey = (
        Planner(random.Random(chance.random())),
        Monkey(stage, random.Random(chance.random()), pause, kill or ACTS),
    )
    stage.keep()
    plans = _dispatch(stage, planner, monkey, seconds, rate)
    accepted = sum(plan.accepted is True for plan in plans)
    say(f"{accepted} canvases are sent, {len(plans) - accepted} were refused; killed: {dict(monkey.done)}")
    under_fire = settled(plans, partial(read, stage.ledger), PATIENCE)
    say(f"under fire: {under_fire.ends}  {under_fire.wrong or ''}")
    stage.mended.touch()
    _replay_all(say)
    replayed = settled(plans, partial(read, stage.ledger), PATIENCE)
    say(f"replayed: {replayed.ends}  {replayed.wrong or ''}")
    ledger = read(stage.ledger)
    return Report(
        seed=seed, broker=stage.broker_name, seconds=seconds, canvases=len(plans), refused=len(plans) - accepted, kills=dict(monkey.done),
        under_fire=under_fire, replayed=replayed, repeated=sum(len(given) > 1 for given in ledger.received.values()),
    )  # fmt: skip


def _dispatch(stage: Stage, planner: Planner, monkey: Monkey, seconds: float, rate: float) -> list[Plan]:
    plans: list[Plan] = []
    monkey.start()
    try:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            plan = planner.plan()
            plans.append(plan)
            try:
                plan.canvas.apply_async()
                plan.accepted = True
            except Exception:
                # A server is away: the sender was told, so nothing was promised.
                plan.accepted = False
                connection.close()
            stage.keep()
            time.sleep(1 / rate)
    finally:
        monkey.stop()
        stage.keep()
    return plans


def _replay_all(say: Callable[[str], None]) -> None:
    """Replay what is open until nothing is: a replay may die again of a message that a killed worker left behind."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        waiting = DeadLetter.objects.exclude(state="resolved").count()
        if not waiting:
            return
        for letter in DeadLetter.objects.open():
            with contextlib.suppress(NotReplayable):
                replay(letter, by=None, reason="mended")
        time.sleep(1)
    say(f"{waiting} letters are not resolved")
