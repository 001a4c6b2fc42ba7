"""Replay many letters: start a redrive, hold it, let it go on, end it. `drive.py` does the sending."""

import logging
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Self

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Count, Max
from django.utils import timezone
from django.utils.translation import gettext as _

from deadletters import audit
from deadletters.models import Act, Redrive, State
from deadletters.redrives import new_driver
from deadletters.selection import Selection

logger = logging.getLogger(__name__)

# A driver says so often that it lives that nobody takes its redrive over while it does.
LEASE = timedelta(seconds=15)
# Letters a second, the slowest one in a quarter of an hour.
SLOWEST, FASTEST = 0.001, 100_000
# The states in which it sends.
SENDS = (Redrive.State.CANARY, Redrive.State.SENDING)


class NotRedrivable(Exception):
    """The redrive cannot be started, or not moved so; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """How a redrive goes about it. `rate` is letters a second (None: as fast as it goes), `stop_above` per cent that died again."""

    rate: float | None = None
    canary: int = 0
    stop_above: float | None = None

    @classmethod
    def parse(cls, rate: str | None, canary: str | None, stop_above: str | None) -> Self:
        """Out of what people type; empty means without. A percentage may have its sign.

        Raises:
            NotRedrivable: one is no number.
        """
        try:
            return cls(
                rate=float(rate) if rate and rate.strip() else None,
                canary=int(canary) if canary and canary.strip() else 0,
                stop_above=float(percent) if (percent := (stop_above or "").strip().removesuffix("%")) else None,
            )
        except ValueError as problem:
            raise NotRedrivable(_("Rate, canary and “stop above” are numbers: %s.") % problem) from None

    def check(self) -> None:
        """Refuse what makes no sense.

        Raises:
            NotRedrivable: which number, and what it may be.
        """
        if self.rate is not None and not SLOWEST <= self.rate <= FASTEST:
            raise NotRedrivable(_("The rate is a number of letters a second from 0.001 to 100,000."))
        if not 0 <= self.canary <= 10_000:
            raise NotRedrivable(_("The canary is a number of letters from 0 to 10,000."))
        if self.stop_above is not None and not 0 <= self.stop_above <= 100:
            raise NotRedrivable(_("“Stop above” is a percentage from 0 to 100."))


def start(
    selection: Selection,
    *,
    by: User | str | None,
    reason: str = "",
    conditions: Conditions | None = None,
    origin: str = "",
    upto: int | None = None,
) -> Redrive:
    """Make a redrive of the open letters that the selection means now; what dies later, also once more, is not swept in. Somebody has to drive it.

    `upto` is the highest letter that the person was told of.

    Raises:
        NotRedrivable: no letter is open, others than open ones are meant, or a condition makes no sense.
    """
    conditions = conditions or Conditions()
    conditions.check()
    if selection.states and State.OPEN not in selection.states:
        raise NotRedrivable(_("Only open letters are replayed; restore what was discarded first."))
    frozen = replace(selection, states=(State.OPEN.value,))
    letters = frozen.letters() if upto is None else frozen.letters().filter(pk__lte=upto)
    now = letters.order_by().aggregate(upto=Max("pk"), until=Max("died_at"), total=Count("pk"))
    if not now["total"]:
        raise NotRedrivable(_("No open letter matches: there is nothing to replay."))
    with transaction.atomic():
        redrive = Redrive.objects.create(
            state=Redrive.State.CANARY if conditions.canary else Redrive.State.SENDING,
            selection=frozen.to_json(),
            **now,
            reason=reason.strip(),
            rate=conditions.rate,
            canary=conditions.canary,
            canary_passed=not conditions.canary,
            stop_above=conditions.stop_above,
            who=audit.name_of(by),
            started_by=by if isinstance(by, User) else None,
            origin=origin[:255],
            driver=new_driver(),
            lease_until=timezone.now() + LEASE,
        )
        _record(redrive, Act.Verb.REDRIVE_STARTED, by, reason=reason, origin=origin, number=redrive.total)
    logger.info("redrive.started", extra={"redrive": redrive.pk, "letters": redrive.total, "by": redrive.who})
    return redrive


def pause(redrive: Redrive, *, by: User | str | None, origin: str = "") -> None:
    """Send nothing more until somebody resumes it; a slice that is on its way arrives.

    Raises:
        NotRedrivable: it does not send now.
    """
    _move(redrive, SENDS, Redrive.State.PAUSED, verb=Act.Verb.REDRIVE_PAUSED, by=by, origin=origin)


def resume(redrive: Redrive, *, by: User | str | None, origin: str = "") -> None:
    """Go on where it was held. A person who resumes a stopped one has judged what died again: only what dies from here on counts.

    A canary that was held before any of it died is still a canary.

    Raises:
        NotRedrivable: it is not held.
    """
    with transaction.atomic():
        was = Redrive.objects.select_for_update().get(pk=redrive.pk)
        stopped = was.state == Redrive.State.STOPPED
        passed = was.canary_passed or (stopped and was.died > was.judged_died)
        to = Redrive.State.SENDING if passed else Redrive.State.CANARY
        _move(redrive, Redrive.HELD, to, verb=Act.Verb.REDRIVE_RESUMED, by=by, origin=origin)
        fresh = {"driver": new_driver(), "lease_until": timezone.now() + LEASE, "canary_passed": passed, "refusals": 0}
        if stopped:
            fresh |= {"judged_succeeded": was.succeeded, "judged_died": was.died}
        Redrive.objects.filter(pk=redrive.pk).update(**fresh)
    redrive.refresh_from_db()


def cancel(redrive: Redrive, *, by: User | str | None, origin: str = "") -> None:
    """End it: what is not sent stays open.

    Raises:
        NotRedrivable: it has ended, or has sent everything.
    """
    from_ = (*SENDS, *Redrive.HELD)
    _move(redrive, from_, Redrive.State.CANCELLED, verb=Act.Verb.REDRIVE_CANCELLED, by=by, origin=origin)
    Redrive.objects.filter(pk=redrive.pk).update(ended_at=timezone.now())


def stop(redrive: Redrive, why: str) -> bool:
    """It holds itself; False when somebody else has held or ended it meanwhile."""
    try:
        _move(redrive, SENDS, Redrive.State.STOPPED, verb=Act.Verb.REDRIVE_STOPPED, by=str(redrive), why=why)
    except NotRedrivable:
        return False
    logger.warning("redrive.stopped", extra={"redrive": redrive.pk, "why": why})
    return True


def _move(
    redrive: Redrive,
    sources: tuple[Redrive.State, ...],
    target: Redrive.State,
    *,
    verb: Act.Verb,
    by: User | str | None,
    origin: str = "",
    why: str = "",
) -> None:
    with transaction.atomic():
        if not Redrive.objects.filter(pk=redrive.pk, state__in=sources).update(state=target, why=why):
            redrive.refresh_from_db(fields=["state"])
            raise NotRedrivable(
                _("%(redrive)s is %(state)s; that cannot be done with it now.")
                % {"redrive": redrive, "state": redrive.get_state_display().lower()}
            )
        redrive.state, redrive.why = target, why
        _record(redrive, verb, by, reason=why, origin=origin, number=redrive.total)


def _record(redrive: Redrive, verb: Act.Verb, by: User | str | None, *, reason: str, origin: str, number: int) -> None:
    selection = Selection.from_json(redrive.selection)
    audit.record(
        verb,
        by=by,
        number=number,
        reason=reason,
        origin=origin,
        subject=selection.in_words(),
        fingerprint=selection.error,
        redrive_id=redrive.pk,
        details={"selection": redrive.selection, "upto": redrive.upto},
        root_id=selection.root,
    )
