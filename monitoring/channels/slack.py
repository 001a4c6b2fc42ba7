"""Slack, by an incoming webhook. Its address is a secret: it is in no message, log line or exception of ours."""

from urllib.parse import urlsplit

import httpx
from django.conf import settings

from monitoring.notice import NotDelivered, NotDeliveredYet, Notice

TIMEOUT = httpx.Timeout(10, connect=5)


def configured() -> bool:
    """Whether there is a webhook to send to."""
    return bool(settings.SLACK_WEBHOOK_URL)


def recipients() -> str:
    """To whom it goes, for people: the host alone, for the rest of the address is a secret."""
    return urlsplit(settings.SLACK_WEBHOOK_URL).hostname or ""


def send(notice: Notice) -> None:
    """Post `notice` to the webhook.

    Raises:
        NotDeliveredYet: Slack is away, slow, busy (429) or broken (5xx).
        NotDelivered: Slack refused it, or the address is none.
    """
    try:
        answer = httpx.post(settings.SLACK_WEBHOOK_URL, json=_payload(notice), timeout=TIMEOUT, follow_redirects=False)
    except (httpx.InvalidURL, httpx.UnsupportedProtocol):
        raise NotDelivered("SLACK_WEBHOOK_URL is not a usable https:// address.") from None
    except httpx.TransportError as problem:
        # `from None`: a chained exception may carry the request, and with it the address.
        raise NotDeliveredYet(f"Slack cannot be reached: {type(problem).__name__}.") from None
    if answer.status_code == httpx.codes.TOO_MANY_REQUESTS or answer.is_server_error:
        raise NotDeliveredYet(f"Slack answered {answer.status_code}.")
    if not answer.is_success:
        raise NotDelivered(
            f"Slack answered {answer.status_code} ({answer.text[:100]!r}). Check SLACK_WEBHOOK_URL: the webhook may be revoked."
        )


def _payload(notice: Notice) -> dict[str, object]:
    link = f"\n<{notice.link}|Open>" if notice.link else ""
    return {
        "text": f"*{_escape(notice.subject)}*\n{_escape(notice.text)}{link}",
        "unfurl_links": False,
        "unfurl_media": False,
    }


def _escape(text: str) -> str:
    # Slack's control characters; unescaped, an error message could mention @channel or fake a link.
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
