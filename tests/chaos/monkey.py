"""Kills at random, by a seeded chance, and says what and when."""

import contextlib
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Collection

import psutil

from tests.chaos.stage import Process, Stage

# How often each act is chosen, among a hundred.
ACTS = {"child": 45, "worker": 20, "stopped worker": 5, "postgresql": 12, "broker": 12, "beat": 6}
# A server is away for this long, in seconds.
AWAY = (0.3, 5.0)


class Monkey:
    """A thread that kills until it is told to stop; whatever it took away is back when `stop` returns."""

    def __init__(self, stage: Stage, chance: random.Random, pause: float, acts: Collection[str]) -> None:
        self.stage, self.chance, self.pause = stage, chance, pause
        self.acts = {act: weight for act, weight in ACTS.items() if act in acts}
        self.done: Counter[str] = Counter()
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._run, name="monkey")

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._enough.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._enough.wait(self.chance.uniform(0.2, 2 * self.pause)):
            act = self.chance.choices(list(self.acts), list(self.acts.values()))[0]
            self.done[act] += 1
            print(f"{time.strftime('%H:%M:%S')}  {act}", flush=True)
            getattr(self, f"_{act.replace(' ', '_')}")()

    def _child(self) -> None:
        worker = self.chance.choice(self.stage.workers)
        if children := _children(worker):
            with contextlib.suppress(psutil.NoSuchProcess):
                self.chance.choice(children).send_signal(signal.SIGKILL)

    def _worker(self) -> None:
        worker = self.chance.choice(self.stage.workers)
        worker.end(signal.SIGKILL)
        worker.keep()

    def _stopped_worker(self) -> None:
        worker = self.chance.choice(self.stage.workers)
        if worker.process and worker.process.poll() is None:
            os.kill(worker.process.pid, signal.SIGSTOP)
            self._enough.wait(self.chance.uniform(1, 6))
            os.kill(worker.process.pid, signal.SIGCONT)

    def _postgresql(self) -> None:
        self.stage.postgresql.stop(kill=True)
        self._enough.wait(self.chance.uniform(*AWAY))
        self.stage.postgresql.start()

    def _broker(self) -> None:
        self.stage.broker.stop(kill=True)
        self._enough.wait(self.chance.uniform(*AWAY))
        self.stage.broker.start()

    def _beat(self) -> None:
        self.stage.beat.end(signal.SIGKILL)
        self.stage.beat.keep()


def _children(worker: Process) -> list[psutil.Process]:
    if worker.process is None:
        return []
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(worker.process.pid).children()
    return []
