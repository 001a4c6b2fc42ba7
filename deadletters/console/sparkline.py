"""Numbers to the points of a small SVG line. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Sparkline:
    """What the template draws, in the units of its viewBox."""

    width: int
    height: int
    line: str
    area: str
    highest: int
    total: int


def sparkline(values: Sequence[int], *, width: int = 112, height: int = 26) -> Sparkline:
    """A line from left to right; 0 is always at the bottom, so that two lines can be compared by eye."""
    values = values or (0,)
    highest = max(values)
    step = width / max(1, len(values) - 1)
    base, reach = height - 1.0, height - 4.0
    points = [(place * step, base - value / (highest or 1) * reach) for place, value in enumerate(values)]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return Sparkline(
        width=width,
        height=height,
        line=line,
        area=f"0,{height} {line} {width},{height}",
        highest=highest,
        total=sum(values),
    )
