"""What really happened, written by the tasks themselves into one file that no server of the platform knows."""

import json
import os
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


def write(task_id: str, event: str, received: list[Any] | None = None) -> None:
    """One line, whole: a short append to a local file is not torn, whoever is killed next."""
    line = json.dumps([round(time.time(), 3), task_id, event, received]) + "\n"
    file = os.open(os.environ["SOAK_LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(file, line.encode())
    finally:
        os.close(file)


@dataclass
class Ledger:
    """The lines of the file, by task."""

    events: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    # What a task was given, each time it finished.
    received: dict[str, list[list[Any]]] = field(default_factory=lambda: defaultdict(list))

    def began(self, task_id: str) -> bool:
        return task_id in self.events and self.events[task_id]["began"] > 0

    def finished(self, task_id: str) -> bool:
        return task_id in self.events and self.events[task_id]["finished"] > 0


def read(path: Path) -> Ledger:
    ledger = Ledger()
    for line in path.read_text().splitlines() if path.exists() else ():
        _at, task_id, event, received = json.loads(line)
        ledger.events[task_id][event] += 1
        if event == "finished":
            ledger.received[task_id].append(received)
    return ledger
