"""Middleware: times are told by the clocks of whoever looks."""

from collections.abc import Callable
from urllib.parse import unquote
from zoneinfo import ZoneInfo, available_timezones

from django.http import HttpRequest, HttpResponseBase  # noqa: TID251  (middleware is a door)
from django.utils import timezone

COOKIE = "zone"  # set by static/ops.js
ZONES = frozenset(available_timezones())


class ViewerZoneMiddleware:
    """Makes the browser's time zone the current one for a request; TIME_ZONE where it did not tell."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """The response, made by those clocks."""
        zone = unquote(request.COOKIES.get(COOKIE, ""))
        with timezone.override(ZoneInfo(zone) if zone in ZONES else None):
            return self.get_response(request)
