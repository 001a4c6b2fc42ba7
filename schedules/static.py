"""The entries of `beat_schedule` in the settings: created once, never changed; what an operator made of one stays."""

import logging

from celery import Celery
from celery.schedules import crontab
from django.db import InterfaceError, OperationalError, connection
from django_celery_beat.schedulers import ModelEntry

from schedules.models import Schedule

logger = logging.getLogger(__name__)


def install(app: Celery) -> list[str]:
    """Create the entries that are missing; returns their names. One that cannot be is reported and left out."""
    entries = dict(app.conf.beat_schedule or {})
    if app.conf.result_expires and not app.backend.supports_autoexpire:
        entries.setdefault(
            "celery.backend_cleanup",
            {"task": "celery.backend_cleanup", "schedule": crontab("0", "4"), "options": {"expire_seconds": 12 * 3600}},
        )
    created = []
    try:
        there = set(Schedule.objects.filter(name__in=entries).values_list("name", flat=True))
        for name, entry in entries.items():
            if name in there:
                continue
            try:
                Schedule.objects.create(name=name, **ModelEntry._unpack_fields(**entry))
            except (OperationalError, InterfaceError):
                raise
            except Exception:
                logger.exception("schedule.not_installed", extra={"schedule": name})
            else:
                created.append(name)
    finally:
        connection.close()  # nothing else here uses Django's
    return created
