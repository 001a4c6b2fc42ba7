"""What a person sees when a page could not be made, or was not."""

import sys

from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse  # noqa: TID251  (a door)
from django.shortcuts import render  # noqa: TID251  (a door)


def page(request: HttpRequest) -> HttpResponse:
    """Django's handler500: 503 while PostgreSQL is away, which is nobody's bug, else 500. Asks the database nothing."""
    away = isinstance(sys.exc_info()[1], OperationalError | InterfaceError)
    request.user = None  # type: ignore[assignment]  # else the page would ask who that is
    response = render(
        request,
        "503.html" if away else "500.html",
        {"user": None, "perms": {}, "messages": ()},
        status=503 if away else 500,
    )
    if away:
        response.headers["Retry-After"] = "5"
    return response


def refused(request: HttpRequest, exception: Exception) -> HttpResponse:  # noqa: ARG001  (Django's signature)
    """Django's handler400: an address or a form that no page of ours makes."""
    return render(request, "400.html", status=400)
