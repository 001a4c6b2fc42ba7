"""What every benchmark shares: rounds that alternate between the contestants, median, spread and ratio, a table, JSON."""

import importlib.metadata
import json
import os
import platform
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One contestant's figures, each the rate of one round (per second)."""

    name: str
    rates: list[float]

    @property
    def median(self) -> float:
        """The middle one of the rounds."""
        return statistics.median(self.rates)

    @property
    def spread(self) -> float:
        """From the slowest to the fastest round, in percent of the median."""
        return (max(self.rates) - min(self.rates)) / self.median * 100


def alternate(contestants: Mapping[str, Callable[[], float]], rounds: int) -> list[Line]:
    """Run each contestant once a round, so that what else the machine does hits all alike."""
    rates: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(1, rounds + 1):
        for name, run in contestants.items():
            rates[name].append(run())
            print(f"round {number}: {name}: {rates[name][-1]:,.0f}/s", file=sys.stderr, flush=True)
    return [Line(name=name, rates=measured) for name, measured in rates.items()]


def versions(*packages: str) -> dict[str, str]:
    """What was measured."""
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in packages}}


def machine() -> dict[str, Any]:
    """What it was measured on."""
    return {
        "system": platform.system(),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
    }


def table(lines: Sequence[Line], unit: str, ours: str, against: Sequence[str]) -> str:
    """A Markdown table with the median, the spread and ours in proportion to each of `against`."""
    found = {line.name: line for line in lines}
    rows = [f"| system | {unit} | spread | ours is |", "|---|---|---|---|"]
    for line in lines:
        ratio = f"{found[ours].median / line.median:.2f}x" if line.name in against else ""
        rows.append(f"| {line.name} | {line.median:,.0f} | {line.spread:.0f} % | {ratio} |")
    return "\n".join(rows)


def write(path: Path, lines: Sequence[Line], **about: Any) -> None:
    """All figures as JSON."""
    facts = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "machine": machine(), **about}
    path.write_text(json.dumps({**facts, "lines": [asdict(line) for line in lines]}, indent=2) + "\n")
