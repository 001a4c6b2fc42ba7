"""Numbers -> the geometry of an SVG bar chart; pure. Templates print the tags, CSS classes give the colours."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

GRID_LINES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One stacked bar: `failed` stands on `succeeded`. Lengths are SVG units, as text: a locale must not put commas in them."""

    label: str
    succeeded: int
    failed: int
    slot_x: str
    slot_width: str
    x: str
    width: str
    succeeded_y: str
    succeeded_height: str
    failed_y: str
    failed_height: str
    middle: str
    tick: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BarChart:
    """Bars above a time axis; `grid` holds the horizontal lines as (y, label)."""

    width: int
    height: int
    left: int
    top: int
    inner_height: int
    bars: tuple[Bar, ...]
    grid: tuple[tuple[str, str], ...]


def bars(
    rows: Sequence[tuple[str, int, int]],
    *,
    width: int = 720,
    height: int = 190,
    left: int = 44,
    bottom: int = 22,
    top: int = 8,
) -> BarChart:
    """Stacked bars of `rows` (label, succeeded, failed), oldest first, about eight of them labelled."""
    highest = ceiling(max((ok + failed for _, ok, failed in rows), default=0))
    slot = (width - left) / max(1, len(rows))
    inner = height - bottom - top
    every = max(1, math.ceil(len(rows) / 8))
    made = []
    for i, (label, ok, failed) in enumerate(rows):
        x, ok_height = left + i * slot, ok / highest * inner
        # Two units at least: one failure among thousands must still be seen.
        failed_height = max(failed / highest * inner, 2.0) if failed else 0.0
        made.append(
            Bar(
                label=label, succeeded=ok, failed=failed, slot_x=_n(x), slot_width=_n(slot), x=_n(x + slot * 0.12),
                width=_n(slot * 0.76), succeeded_y=_n(top + inner - ok_height), succeeded_height=_n(ok_height),
                failed_y=_n(max(top + inner - ok_height - failed_height, 0)), failed_height=_n(failed_height),
                middle=_n(x + slot / 2), tick=label if i % every == 0 else "",
            )
        )  # fmt: skip
    lines = tuple(
        (_n(top + inner * (1 - k / GRID_LINES)), _label(highest * k / GRID_LINES)) for k in range(GRID_LINES + 1)
    )
    return BarChart(width=width, height=height, left=left, top=top, inner_height=inner, bars=tuple(made), grid=lines)


def ceiling(value: float) -> int:
    """The next number that reads well on an axis and divides by four (4, 8, 12, 20, 40, 60, 80, 100, 200, 400, …)."""
    magnitude = 1
    while True:
        for factor in (1, 1.2, 2, 4, 6, 8):
            candidate = round(factor * magnitude)
            if value <= candidate and candidate % GRID_LINES == 0:
                return candidate
        magnitude *= 10


def _n(value: float) -> str:
    return f"{value:.1f}"


def _label(value: float) -> str:
    return f"{value:,.0f}"
