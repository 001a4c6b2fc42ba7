"""How long a run will take still: a number only where something stands behind it, and what that is; pure."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from pipelines.states import State
from pipelines.words import duration

# Fewer finished steps say nothing about this run's own pace.
ENOUGH = 10
# Earlier runs are like this one when they had about as many steps.
ALIKE = 1.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """`left` is None when it takes longer than what it was estimated from."""

    left: timedelta | None
    basis: str

    def __str__(self) -> str:
        if self.left is None:
            return self.basis
        return _("about %(time)s left (%(basis)s)") % {"time": duration(self.left), "basis": self.basis}


def estimate(
    counts: dict[State, int], elapsed: timedelta, earlier: Sequence[tuple[int, timedelta]], *, disturbed: bool
) -> Estimate | None:
    """Of earlier runs (steps, how long) that succeeded and were about as large, else of this run's own pace; else None.

    `disturbed`: something died, so that neither says anything.
    """
    total, done = sum(counts.values()), counts.get(State.SUCCEEDED, 0)
    if disturbed or not total or done == total:
        return None
    alike = [took for steps, took in earlier if total / ALIKE <= steps <= total * ALIKE]
    if alike:
        usual = timedelta(seconds=statistics.median(took.total_seconds() for took in alike))
        words = {"number": len(alike), "time": duration(usual)}
        if usual > elapsed:
            basis = ngettext(
                "the run before took %(time)s", "the median of %(number)d earlier runs is %(time)s", len(alike)
            )
            return Estimate(left=usual - elapsed, basis=basis % words)
        basis = ngettext("longer than the run before, which took %(time)s", "longer than usual: the median of %(number)d earlier runs is %(time)s", len(alike))  # fmt: skip
        return Estimate(left=None, basis=basis % words)
    if done >= ENOUGH:
        return Estimate(left=elapsed * (total - done) / done, basis=_("at the pace of its first %d steps") % done)
    return None
