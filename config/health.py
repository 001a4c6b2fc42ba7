"""Is this process alive, and can it do its work: for load balancers and orchestrators."""

import logging

from celery import current_app
from django.db import DatabaseError, connection
from django.http import HttpRequest, JsonResponse  # noqa: TID251  (these are views)
from django.views.decorators.cache import never_cache

logger = logging.getLogger(__name__)

# Seconds for an answer of Redis. One that hangs would keep a thread of the server for each probe, until none is left.
PATIENCE = {"socket_connect_timeout": 2, "socket_timeout": 2}


@never_cache
def live(request: HttpRequest) -> JsonResponse:  # noqa: ARG001
    """200 as long as the process answers."""
    return JsonResponse({"alive": True})


@never_cache
def ready(request: HttpRequest) -> JsonResponse:  # noqa: ARG001
    """200 when PostgreSQL and the broker answer, else 503 with which one does not. No addresses: anybody may ask."""
    checks = {"database": _database(), "broker": _broker()}
    return JsonResponse({"ready": all(checks.values()), **checks}, status=200 if all(checks.values()) else 503)


def _database() -> bool:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError:
        logger.warning("health.database_away", exc_info=True)
        return False
    return True


def _broker() -> bool:
    options = PATIENCE if str(current_app.conf.broker_write_url or "").startswith("redis") else {}
    try:
        with current_app.connection_for_write(connect_timeout=2, transport_options=options) as broker:
            broker.ensure_connection(max_retries=1, interval_start=0, timeout=3)
    except Exception:  # each transport raises its own errors; a probe answers, whatever happened
        logger.warning("health.broker_away", exc_info=True)
        return False
    return True
