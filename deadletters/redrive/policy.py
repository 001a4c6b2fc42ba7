"""Replay by itself what a policy says: per task after how long, how often, and until too many die again. Off unless settings name one."""

import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Self

from django.conf import settings
from django.db.models import Sum
from django.utils import timezone
from django.utils.translation import gettext as _

from deadletters.models import Cause, Redrive
from deadletters.redrive.redrive import FASTEST, SLOWEST, Conditions, NotRedrivable, cancel, start
from deadletters.selection import Selection

logger = logging.getLogger(__name__)

# What may be mended by waiting. Nobody should send poison, or what cannot be read, without having looked.
_CAUSES = (
    Cause.EXCEPTION, Cause.RETRIES_EXHAUSTED, Cause.SOFT_TIME_LIMIT, Cause.WORKER_LOST, Cause.PUBLISH_FAILED, Cause.CANCELLED_BY_SHUTDOWN,
)  # fmt: skip
# The circuit breaker looks back so far, and at no fewer outcomes.
_MEMORY, _ENOUGH = timedelta(hours=1), 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """`after` seconds from a death, at most `times` replays a letter; none while more than `breaker` per cent of them die again."""

    task: str
    after: float
    times: int
    breaker: float
    rate: float

    @classmethod
    def parse(cls, task: str, said: Mapping[str, Any]) -> Self:
        """Out of DEADLETTERS_REPLAY_POLICIES.

        Raises:
            ValueError: an unknown key, or a number that makes no sense.
        """
        known = {"after": 600.0, "times": 1, "breaker": 50.0, "rate": 10.0}
        if unknown := sorted(set(said) - set(known)):
            raise ValueError(_("%(task)s: a policy has no %(keys)s") % {"task": task, "keys": ", ".join(unknown)})
        found = {**known, **said}
        policy = cls(task=task, after=float(found["after"]), times=int(found["times"]), breaker=float(found["breaker"]), rate=float(found["rate"]))  # fmt: skip
        if (
            policy.after < 0
            or policy.times < 1
            or not 0 <= policy.breaker <= 100
            or not SLOWEST <= policy.rate <= FASTEST
        ):
            raise ValueError(
                _("%s: after is 0 or more, times 1 or more, breaker 0 to 100, rate 0.001 to 100,000") % task
            )
        return policy

    @property
    def who(self) -> str:
        """How the audit trail calls it."""
        return f"policy {self.task}"[:150]


def policies() -> list[Policy]:
    """Those that the settings name."""
    return [Policy.parse(task, said) for task, said in getattr(settings, "DEADLETTERS_REPLAY_POLICIES", {}).items()]


def apply() -> list[Redrive]:
    """Start a redrive for each policy that has letters due, none under way, and no open breaker. Somebody has to drive them.

    One that a person paused is under way; one that stopped itself waits for the breaker, and ends when the next one starts.
    """
    return [started for policy in policies() if (started := _apply(policy)) is not None]


def _apply(policy: Policy) -> Redrive | None:
    mine = Redrive.objects.filter(who=policy.who)
    if mine.filter(state__in=(*Redrive.ACTIVE, Redrive.State.PAUSED)).exists() or _broken(policy):
        return None
    now = timezone.now()
    selection = Selection(
        tasks=(policy.task,),
        causes=tuple(cause.value for cause in _CAUSES),
        until=now - timedelta(seconds=policy.after),
        replays_below=policy.times,
    )
    # No canary: one hopeless letter would hold back all others, and the oldest is the likeliest to be one.
    conditions = Conditions(rate=policy.rate, stop_above=policy.breaker)
    try:
        new = start(selection, by=policy.who, reason=_("replayed by policy"), conditions=conditions, origin="settings")
    except NotRedrivable:  # nothing is due
        return None
    # The breaker has closed again since they stopped.
    for stopped in mine.filter(state=Redrive.State.STOPPED):
        with suppress(NotRedrivable):  # a person was quicker
            cancel(stopped, by=policy.who)
    return new


def _broken(policy: Policy) -> bool:
    """Whether too many of the last hour's replays died again."""
    recent = Redrive.objects.filter(who=policy.who, moved_at__gte=timezone.now() - _MEMORY)
    sums = recent.aggregate(died=Sum("died"), succeeded=Sum("succeeded"))
    died, known = sums["died"] or 0, (sums["died"] or 0) + (sums["succeeded"] or 0)
    broken = known >= _ENOUGH and 100 * died / known > policy.breaker
    if broken:
        logger.warning("policy.breaker_open", extra={"task": policy.task, "died": died, "known": known})
    return bool(broken)
