"""A connection to the broker that gives up within seconds, so that no page hangs on a broker that is away."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from celery import current_app
from kombu.exceptions import OperationalError

logger = logging.getLogger(__name__)

CONNECT_SECONDS = 2
# Workers answer in milliseconds; one that needs longer is found at the next look.
ANSWER_SECONDS = 0.7


class BrokerAway(Exception):
    """The broker does not answer."""


@contextmanager
def connected() -> Iterator[Any]:
    """A connection of kombu.

    Raises:
        BrokerAway: nobody could be asked; also when it goes away inside.
    """
    options = {}
    if str(current_app.conf.broker_write_url or "").startswith("redis"):
        options = {"socket_connect_timeout": CONNECT_SECONDS, "socket_timeout": CONNECT_SECONDS + ANSWER_SECONDS}
    with current_app.connection_for_write(connect_timeout=CONNECT_SECONDS, transport_options=options) as connection:
        away: tuple[type[BaseException], ...] = (OperationalError, *connection.connection_errors)
        try:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=CONNECT_SECONDS)
            yield connection
        except away as problem:
            logger.warning("broker.away", extra={"reason": type(problem).__name__})
            raise BrokerAway from problem
