"""What an operator should know before the platform goes live."""

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Tags, Warning, register  # noqa: A004  (Django's name)


@register(Tags.security, deploy=True)
def somebody_is_told(**_: Any) -> list[CheckMessage]:
    """Dead letters should reach somebody who is not looking at the console."""
    if settings.ADMINS or settings.SLACK_WEBHOOK_URL:
        return []
    return [
        Warning(
            "Nobody is told when a task dies: ADMINS and SLACK_WEBHOOK_URL are both empty.",
            hint="Set ADMINS to one or more mail addresses, SLACK_WEBHOOK_URL to a Slack incoming webhook, or both.",
            id="monitoring.W001",
        )
    ]
