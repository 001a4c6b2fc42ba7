"""Keep redrives going: in this process, in a worker, and again when the worker that drove one has died."""

import logging
from typing import Any

from celery import current_app
from celery.exceptions import SoftTimeLimitExceeded
from django.contrib.auth.models import User
from django.db.models import Exists, OuterRef, Q
from django.utils import timezone

from deadletters.models import Redrive, RedriveItem
from deadletters.redrive import policy
from deadletters.redrive import redrive as verbs
from deadletters.redrive.drive import driver_of
from deadletters.redrive.redrive import LEASE
from deadletters.redrive.tally import tally
from deadletters.redrives import new_driver

logger = logging.getLogger(__name__)

TASK = "deadletters.drive_redrive"
# So few letters are sent within the request that asks for it.
AT_ONCE = 100
_REQUEST_SECONDS, _TASK_SECONDS = 2.0, 20.0


def launch(redrive: Redrive) -> None:
    """Send a small redrive now, and have a worker drive a large one, or one with a rate or a canary."""
    wait: float | None = 0.0
    if redrive.total <= AT_ONCE and redrive.rate is None and not redrive.canary:
        driver = driver_of(redrive)
        try:
            wait = driver.drive(_REQUEST_SECONDS)
        finally:
            driver.publisher.close()
    if wait is not None:
        hand_over(redrive, wait)
    redrive.refresh_from_db()


def resume(redrive: Redrive, *, by: User | str | None, origin: str = "") -> None:
    """Let a held one go on, in a worker.

    Raises:
        NotRedrivable: it is not held.
    """
    verbs.resume(redrive, by=by, origin=origin)
    hand_over(redrive)


def hand_over(redrive: Redrive, wait: float = 0.0) -> None:
    """Have a worker drive it. A broker that is away is no reason to fail: the next look at the redrives asks again."""
    try:
        current_app.send_task(TASK, (redrive.pk, str(redrive.driver)), countdown=wait or None, ignore_result=True)
    except Exception:
        logger.exception("redrive.not_handed_over", extra={"redrive": redrive.pk})


def drive_on(redrive_id: int, token: str) -> None:
    """In a worker: drive for a while, then make room for other tasks and come back."""
    redrive = Redrive.objects.filter(pk=redrive_id, driver=token).first()
    if redrive is None:
        return  # another one drives it
    driver, wait = driver_of(redrive), None
    try:
        wait = driver.drive(_TASK_SECONDS)
    except SoftTimeLimitExceeded:
        # A broker that neither takes nor refuses a slice. As after a crash: when the lease is over, another driver sends it once more.
        logger.warning("redrive.cut_short", extra={"redrive": redrive_id})
    finally:
        driver.publisher.close()
    if wait is not None:
        # Never more than some seconds: what waits longer than the broker's visibility time-out would be sent twice.
        hand_over(redrive, max(wait, 1.0) if wait else 0.0)


def tend() -> dict[str, int]:
    """Start what policies ask for, and look at every redrive that is not finished: count outcomes, give one whose driver died another."""
    try:
        for started in policy.apply():
            hand_over(started)
    except Exception:
        # The redrives that are under way need not wait for it.
        logger.exception("policy.failed")
    waiting = Exists(RedriveItem.objects.filter(redrive=OuterRef("pk"), outcome=RedriveItem.Outcome.SENT))
    looked = handed_over = 0
    for redrive in Redrive.objects.filter(Q(state__in=Redrive.ACTIVE) | waiting):
        tally(redrive)
        looked += 1
        handed_over += _take_over(redrive)
    return {"looked": looked, "handed_over": handed_over}


def _take_over(redrive: Redrive) -> bool:
    unfinished = redrive.state in {Redrive.State.CANARY, Redrive.State.SENDING} or redrive.sent_to < redrive.cursor
    if not unfinished:
        return False
    now = timezone.now()
    token: Any = new_driver()
    free = Redrive.objects.filter(pk=redrive.pk).filter(Q(lease_until=None) | Q(lease_until__lt=now))
    if not free.update(driver=token, lease_until=now + LEASE):
        return False
    redrive.driver = token
    hand_over(redrive)
    return True
