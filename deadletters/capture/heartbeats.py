"""A worker's sign of life, and its look at who gives none any more: one thread of the worker's main process.

A thread, for the event loop may wait (for a server that is away, or for its own task in the solo pool) while everything is well.
"""

import logging
import threading
import time
import uuid
from datetime import timedelta
from typing import Any

from celery import Celery, signals
from celery.worker import state as worker_state
from django.conf import settings
from django.db import Error, close_old_connections, connection

from deadletters import workers
from deadletters.capture import breaker, unacked
from deadletters.capture.reaper import reap
from deadletters.capture.transport import owed

logger = logging.getLogger(__name__)

# Signs within the silence that counts as death: seven may get lost.
_BEATS = 8


class Heartbeat(threading.Thread):
    """Beats until it is stopped. `hold()` tells it at each connection which channel its worker consumes from."""

    def __init__(self, app: Celery, name: str) -> None:
        super().__init__(name="dead-letter-heartbeat", daemon=True)
        self.worker_id = uuid.uuid4()
        self._app, self._worker = app, name
        self._silence = timedelta(seconds=settings.WORKER_LOST_AFTER)
        self._channel: Any = None
        self._stopping = threading.Event()
        self._last = self._since = float("-inf")

    def hold(self, channel: Any) -> None:
        """The worker consumes from this channel from now on; Redis hears of it first, or another one's reaper would take it for dead."""
        self._tell_redis()
        unacked.own(channel, self.worker_id)
        self._channel = channel

    def run(self) -> None:
        """Beat at once, and from then on."""
        breaker.hurry()  # Redis must hear of it, too, while PostgreSQL hangs
        while True:
            try:
                self._beat()
            except Exception:
                logger.exception("worker.heartbeat_failed")
            if self._stopping.wait(self._silence.total_seconds() / _BEATS):
                return

    def stop(self) -> None:
        """The worker ends on purpose: nobody needs to miss it."""
        self._stopping.set()
        self.join(timeout=5)
        try:
            workers.leave(self.worker_id)
            with unacked.channel_of(self._app) as channel:
                if channel:
                    unacked.unsign(channel, self.worker_id)
        except Exception:
            logger.exception("worker.not_signed_off")  # a minute later it is reaped, and nothing is found
        finally:
            connection.close()

    def _beat(self) -> None:
        close_old_connections()
        # Each server hears of it, whether or not the other one is away.
        heard = all([self._tell_postgresql(), self._tell_redis()])
        if self._is_steady(heard=heard):
            reap(self._app, self._silence)

    def _tell_postgresql(self) -> bool:
        try:
            workers.beat(self.worker_id, self._worker)
        except Error as problem:
            logger.warning("worker.heartbeat_not_stored", extra={"reason": str(problem)})
            connection.close()
            return False
        return True

    def _tell_redis(self) -> bool:
        try:
            with unacked.channel_of(self._app) as channel:
                if channel:
                    held, seconds = self._held(), self._silence.total_seconds()
                    unacked.sign(channel, self.worker_id, held, seconds)
                    if found := unacked.give_back_unheard(channel, self.worker_id, held | owed(), seconds):
                        logger.warning("worker.messages_unheard", extra={"restored": found})
        except Exception as problem:  # noqa: BLE001  (each transport has errors of its own)
            logger.warning("worker.heartbeat_not_heard", extra={"reason": str(problem)})
            return False
        return True

    def _held(self) -> set[str]:
        """The tags of all messages that the worker has taken and not acknowledged; what still runs came through an older connection, maybe."""
        tags = {request.message.delivery_tag for request in list(worker_state.requests.values())}
        if self._channel and self._channel._qos:
            tags.update(list(self._channel.qos._delivered))
        return tags

    def _is_steady(self, *, heard: bool) -> bool:
        """Whether each sign came through for as long as the silence of others is held against them.

        Who was cut off, or stopped, finds everybody silent when it comes back: it was the one who was away.
        """
        now = time.monotonic()
        if not heard or now - self._last > self._silence.total_seconds() / 2:
            self._since = now
        self._last = now
        return now - self._since >= self._silence.total_seconds()


_heartbeat: Heartbeat | None = None


def start(app: Celery, name: str, channel: Any) -> None:
    """The worker `name` has connected to the broker, for the first time or again."""
    global _heartbeat  # noqa: PLW0603  (one a process; a worker is one for its whole life)
    if _heartbeat is None:
        _heartbeat = Heartbeat(app, name)
        signals.worker_shutdown.connect(stop, weak=False, dispatch_uid="deadletters.capture.heartbeats")
    _heartbeat.hold(channel)
    if not _heartbeat.is_alive():
        _heartbeat.start()


def stop(**_: Any) -> None:
    """The worker ends; its tasks have."""
    if _heartbeat is not None:
        _heartbeat.stop()


def worker_id() -> uuid.UUID | None:
    """Who this worker is; None in a process that is none."""
    return _heartbeat.worker_id if _heartbeat else None
