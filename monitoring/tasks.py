"""The tasks of this room; each calls one verb. Their names are stored in schedules and messages, so they never change."""

import logging
from typing import Any

from celery import shared_task
from django.conf import settings

from monitoring import alerts, dashboard, deliveries, heartbeats, minutes, reports, retention
from monitoring.notice import NotDeliveredYet, Notice

logger = logging.getLogger(__name__)

# A heartbeat counts so long at most; a new installation's past takes several of them.
COUNTING_SECONDS = 10

# About half an hour of tries, at 2, 4, 8 … seconds.
DELIVERY: dict[str, Any] = {
    "autoretry_for": (NotDeliveredYet,),
    "retry_backoff": 2,
    "retry_backoff_max": settings.RETRY_BACKOFF_MAX,
    "max_retries": 10,
    "soft_time_limit": 60,
    "time_limit": 75,
}


@shared_task(name="monitoring.alert_slack", ignore_result=True, **DELIVERY)
def alert_slack(dead_letter_id: int, held_back: int = 0) -> None:
    """Tell Slack of one dead letter."""
    alerts.deliver("monitoring.alert_slack", dead_letter_id, held_back)


@shared_task(name="monitoring.alert_mail", ignore_result=True, **DELIVERY)
def alert_mail(dead_letter_id: int, held_back: int = 0) -> None:
    """Mail one dead letter to the ADMINS."""
    alerts.deliver("monitoring.alert_mail", dead_letter_id, held_back)


@shared_task(name=alerts.TELL, ignore_result=True, **DELIVERY)
def tell(channel: str, subject: str, text: str, link: str) -> None:
    """Say something on one channel."""
    deliveries.send(alerts.CHANNELS[channel], Notice(subject=subject, text=text, link=link))


@shared_task(name="monitoring.heartbeat", soft_time_limit=30, time_limit=40)
def heartbeat() -> str:
    """Record that beat, the broker, a worker and the database work together, tell what nobody was told of, count the minutes that are over."""
    at = heartbeats.record()
    alerts.catch_up()
    dashboard.take_sample()
    minutes.close_all(COUNTING_SECONDS)
    minutes.prune()
    return at.isoformat()


@shared_task(name="monitoring.daily_report", **DELIVERY)
def daily_report() -> dict[str, Any]:
    """Yesterday's runs, failures and slowest tasks, mailed to the ADMINS; returns the figures."""
    return reports.daily()


@shared_task(name="monitoring.digest", **DELIVERY)
def digest() -> dict[str, Any]:
    """The open dead letters grouped by error, mailed to the ADMINS when there are any; returns the figures."""
    return reports.digest()


@shared_task(name="monitoring.clean_up", soft_time_limit=1500, time_limit=1600)
def clean_up() -> dict[str, int]:
    """Delete what is beyond RETENTION_DAYS (and the settings for letters) and not needed any more; returns how many rows of each kind."""
    deliveries.prune()
    return retention.prune().as_dict()


@shared_task(name="monitoring.echo", soft_time_limit=10, time_limit=15)
def echo(*args: Any, **kwargs: Any) -> dict[str, Any]:
    """Log and return the arguments: the task to try a schedule with."""
    logger.info("task.echo", extra={"echo_args": args, "echo_kwargs": kwargs})
    return {"args": list(args), "kwargs": kwargs}
