"""Middleware: an address with a NUL in it is refused, for nothing that PostgreSQL stores has one, and it would fail to ask."""

from collections.abc import Callable

from django.core.exceptions import BadRequest
from django.http import HttpRequest, HttpResponseBase  # noqa: TID251  (middleware is a door)


class RefuseNul:
    """Forms refuse it by themselves; a filter or a search of a list is read from the address."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """The response.

        Raises:
            BadRequest: there is one in the address.
        """
        if "\0" in request.path or "%00" in request.META.get("QUERY_STRING", ""):
            raise BadRequest("an address with a NUL")
        return self.get_response(request)
