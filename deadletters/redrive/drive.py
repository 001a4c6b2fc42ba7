"""Drive a redrive: one step after the other, each of which survives the death of its process.

A step claims a slice in one transaction with the redrive's cursor, publishes it, and moves `sent_to` behind it. Whoever finds
`sent_to` before `cursor` sends that slice once more, under new copies, of which a worker begins one: nothing is skipped, nothing runs twice.
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from celery import current_app
from django.db import OperationalError, transaction
from django.db.models import F, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from deadletters.faults import fault
from deadletters.models import Redrive, RedriveItem
from deadletters.redrive.batch import claim_slice, next_ids, skip, unsettled
from deadletters.redrive.redrive import LEASE, SENDS, stop
from deadletters.redrive.tally import awaited, tally
from deadletters.replay.claim import fail_again, open_again
from deadletters.replay.cluster import inspection
from deadletters.replay.publish import Publisher, Ready, Unsent

logger = logging.getLogger(__name__)

SLICE = 1_000
# At a rate, letters leave in ticks; a driver that was held up catches up with no more than a few seconds' worth.
_TICK, _CREDIT = 0.2, timedelta(seconds=2)
# Seconds between two looks at the outcomes.
_LOOK = 1.0
# A broker that is away is asked so often, at 1, 2, 4 … seconds.
_REFUSALS = 5
# Fewer outcomes say nothing about a share.
_ENOUGH = 10


@dataclass(slots=True)
class Driver:
    """Who drives one redrive, as long as the token is the redrive's own."""

    redrive_id: int
    token: UUID
    publisher: Publisher
    look_at: float = float("-inf")

    def drive(self, seconds: float) -> float | None:
        """Step until there is something to wait for, or for so long. The seconds to wait; None: it sends no more, or another drives it."""
        until = time.monotonic() + seconds
        wait: float | None = 0.0
        while wait == 0 and time.monotonic() < until:
            wait = self.step()
        return wait

    def step(self) -> float | None:
        """Do what is next; returns as `drive` does."""
        mine = Redrive.objects.filter(pk=self.redrive_id, driver=self.token)
        if not mine.filter(state__in=SENDS).update(lease_until=timezone.now() + LEASE):
            self._settle_held(mine.first())
            return None
        redrive = mine.get()
        if redrive.sent_to < redrive.cursor:
            return self._publish(redrive, *unsettled(redrive), redrive.cursor)
        if (wait := self._judge(redrive)) != 0:
            return wait
        redrive.refresh_from_db()
        room, paid_until, wait = _room(redrive, timezone.now())
        return self._send(room, paid_until) if room else wait

    # --- Send --------------------------------------------------------------------------------------------------------

    def _send(self, room: int, paid_until: datetime | None) -> float | None:
        inspection.cluster()  # asked now, if its answer is old: no row is locked meanwhile
        try:
            with transaction.atomic():
                mine = Redrive.objects.filter(pk=self.redrive_id, driver=self.token, state__in=SENDS)
                redrive = mine.select_for_update().first()
                if redrive is None:
                    return None
                ids = next_ids(redrive, room)
                if not ids:
                    # Up to the end: after a refusal some that were confirmed lie beyond the cursor.
                    end = {"cursor": redrive.upto, "sent_to": redrive.upto}
                    mine.update(state=Redrive.State.WATCHING, moved_at=timezone.now(), **end)
                    return None
                slice_ = claim_slice(redrive, ids)
                mine.update(cursor=ids[-1], skipped=F("skipped") + len(slice_.skipped), paid_until=paid_until)
                fault("redrive.claiming")
        except OperationalError:
            # Two who lock many letters in different orders: nothing of this slice was claimed.
            logger.warning("redrive.slice_again", extra={"redrive": self.redrive_id}, exc_info=True)
            return _TICK
        fault("redrive.claimed")
        return self._publish(redrive, slice_.messages, len(slice_.messages), ids[-1])

    def _publish(self, redrive: Redrive, messages: Sequence[Ready], number: int, upto: int) -> float | None:
        """Send a slice of `number` letters, of which some may have been sent by a driver that died."""
        try:
            if messages:
                self.publisher.send(messages)
        except Unsent as problem:
            return self._refused(redrive, messages, number, upto, problem)
        fault("redrive.published")
        mine = self._slice(redrive, upto)
        mine.update(sent_to=upto, sent=F("sent") + number, refusals=0, moved_at=timezone.now())
        return 0.0

    def _refused(
        self, redrive: Redrive, messages: Sequence[Ready], number: int, upto: int, problem: Unsent
    ) -> float | None:
        """What the broker does not certainly have is open again; what it refuses for good is skipped, the rest is tried once more."""
        unsent = [one.letter_id for one in messages if one.letter_id not in problem.confirmed]
        wait = 2.0**redrive.refusals
        with transaction.atomic():
            mine = self._slice(redrive, upto)
            if mine.select_for_update().first() is None:
                return None  # so late that another driver has this slice
            items = RedriveItem.objects.filter(redrive=redrive, dead_letter_id__in=unsent)
            back = open_again(dict(items.values_list("dead_letter_id", "replay_number")), by=None, why=str(problem))
            # The others a worker has begun: they were sent.
            refused = {letter.pk: problem.refused[letter.pk] for letter in back if letter.pk in problem.refused}
            again = [letter.pk for letter in back if letter.pk not in refused]
            items.filter(dead_letter_id__in=again).delete()
            skip(redrive, refused)
            back_to = min(again) - 1 if again else upto
            mine.update(
                cursor=back_to,
                sent_to=back_to,
                sent=F("sent") + number - len(back),
                skipped=F("skipped") + len(refused),
                refusals=F("refusals") + int(bool(again)),
                lease_until=timezone.now() + timedelta(seconds=wait) + LEASE,
            )
        fail_again(back)
        if not again:
            return 0.0
        if redrive.refusals >= _REFUSALS:
            stop(redrive, _("The broker did not take the messages: %s. Resume when it answers.") % problem)
            return None
        return wait

    def _slice(self, redrive: Redrive, upto: int) -> QuerySet[Redrive]:
        """The redrive, as long as its slice up to `upto` is this driver's and unsettled."""
        return Redrive.objects.filter(pk=redrive.pk, driver=self.token, sent_to=redrive.sent_to, cursor=upto)

    def _settle_held(self, redrive: Redrive | None) -> None:
        """Paused or cancelled between claim and sending: that slice is sent, for it is claimed."""
        if redrive is not None and redrive.sent_to < redrive.cursor:
            self._publish(redrive, *unsettled(redrive), redrive.cursor)

    # --- Look --------------------------------------------------------------------------------------------------------

    def _judge(self, redrive: Redrive) -> float | None:
        """0: go on sending; None: it has stopped; else the seconds to wait for the canary."""
        waits = redrive.state == Redrive.State.CANARY and redrive.sent >= redrive.canary
        careful = redrive.state == Redrive.State.CANARY or redrive.stop_above is not None
        if not careful or (not waits and time.monotonic() < self.look_at):
            return 0.0
        began = time.monotonic()
        tally(redrive)
        # Of 100,000 that are on their way a look takes a while: it may cost a tenth of the time.
        self.look_at = time.monotonic() + max(_LOOK, 10 * (time.monotonic() - began))
        died = redrive.died - redrive.judged_died
        known = died + redrive.succeeded - redrive.judged_succeeded
        if redrive.state == Redrive.State.CANARY:
            if died:
                stop(
                    redrive, _("%(died)d of the first %(canary)d died again.") % {"died": died, "canary": redrive.sent}
                )
                return None
            # Letters that turned out to be discarded or revoked are no evidence: others are sent in their place. And what a page has
            # counted since is not passed over: the next look knows of it.
            if redrive.sent >= redrive.canary and (awaited(redrive) or not _passed(redrive)):
                return _LOOK
        if redrive.stop_above is not None and known >= min(_ENOUGH, redrive.total):
            share = 100 * died / known
            if share > redrive.stop_above:
                stop(
                    redrive,
                    _("%(died)d of %(known)d died again: %(share).0f %% is more than %(limit)g %%.")
                    % {"died": died, "known": known, "share": share, "limit": redrive.stop_above},
                )
                return None
        return 0.0


def _passed(redrive: Redrive) -> bool:
    """The canary is over, if all of it was sent and none of it has died; whether it is."""
    canary = Redrive.objects.filter(pk=redrive.pk, state=Redrive.State.CANARY)
    fine = canary.filter(sent__gte=F("canary"), died=F("judged_died"))
    return bool(fine.update(state=Redrive.State.SENDING, canary_passed=True))


def _room(redrive: Redrive, now: datetime) -> tuple[int, datetime | None, float]:
    """How many letters may leave now, until when they are paid for then, and how long to wait if none may."""
    room = SLICE
    if redrive.state == Redrive.State.CANARY:
        room = min(room, redrive.canary - redrive.sent)
    if redrive.rate is None:
        return room, None, 0.0
    since = max(redrive.paid_until or now, now - _CREDIT)
    room = min(room, int(((now - since).total_seconds() + _TICK) * redrive.rate))
    if room < 1:
        # Rarer than a tick: one letter when its time has come.
        if now < since:
            return 0, None, min((since - now).total_seconds(), LEASE.total_seconds() / 3)
        room = 1
    return room, since + timedelta(seconds=room / redrive.rate), 0.0


def driver_of(redrive: Redrive) -> Driver:
    """The driver that the redrive names."""
    assert redrive.driver is not None
    return Driver(redrive.pk, redrive.driver, Publisher(current_app))
