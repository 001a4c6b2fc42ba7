"""Notices that schedules have stopped. It looks from inside every worker: a beat cannot tell of its own end."""

import logging
import threading
from typing import Any

from celery import signals
from django.db import DatabaseError, close_old_connections, connections
from django.utils.translation import gettext as _

from monitoring import alerts
from monitoring.notice import Notice
from monitoring.tiles import age
from schedules.history import Beat
from schedules.liveness import Liveness, liveness

logger = logging.getLogger(__name__)

EVERY = 10.0
KEY = "beat is silent"


def connect() -> None:
    """A thread for each worker's main process."""
    signals.worker_ready.connect(start, weak=False, dispatch_uid="monitoring.watchdog")


def start(**_kwargs: Any) -> None:
    """Watch until the worker ends."""
    threading.Thread(target=_watch, name="watchdog", daemon=True).start()


def look() -> bool:
    """Whether schedules are found to have stopped; then every channel is told, at most once in ALERT_EVERY seconds."""
    found = liveness()
    # Where no beat ever ran, none is missed.
    if not found.silent or not Beat.objects.exists():
        return False
    logger.critical("beat.silent", extra={"beat": found.leader, "standing_by": found.standing_by})
    alerts.tell(KEY, _notice(found))
    return True


def _notice(found: Liveness) -> Notice:
    if found.age is None:
        text = _("No beat leads, so no schedule runs.")
    else:
        text = _("%(beat)s last ticked %(age)s ago and no other took over, so no schedule runs.") % {
            "beat": found.leader,
            "age": age(found.age),
        }
    steps = _(
        "Check that a beat runs and reaches PostgreSQL (manage.py beat_ready --any). What was missed is caught up as each schedule says."
    )
    return Notice(
        subject=_("Schedules have stopped: no beat ticks"),
        text=f"{text}\n{steps}",
        link=f"{alerts.link('schedules_schedule_changelist')}?state=late",
    )


def _watch() -> None:
    pause = threading.Event()
    while not pause.wait(EVERY):
        try:
            close_old_connections()
            look()
        except DatabaseError:
            logger.warning("watchdog.database_away", exc_info=True)
        except Exception:
            logger.exception("watchdog.failed")
        finally:
            connections.close_all()
