"""What the console's pages of this room share: who acts, from where, what is said, and where to go afterwards."""

from collections.abc import Callable
from ipaddress import ip_address

from django.conf import settings
from django.contrib import messages  # noqa: TID251  (this module is a part of the admin's door)
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect  # noqa: TID251
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme

from deadletters.redrive.redrive import NotRedrivable
from deadletters.replay.discard import NotDiscardable
from deadletters.replay.edit import BadEdit
from deadletters.replay.replay import NotReplayable
from deadletters.replay.triage import NotTriaged
from deadletters.search import TooShort

CHANGELIST = "admin:deadletters_deadletter_changelist"
# What a verb says when it does not do what it was asked to.
REFUSALS = (NotReplayable, NotDiscardable, NotRedrivable, NotTriaged, BadEdit, TooShort)


def require(allowed: bool) -> None:  # noqa: FBT001  (the question's answer is the argument)
    """The view refuses whom the page shows no button."""
    if not allowed:
        raise PermissionDenied


def by(request: HttpRequest) -> User:
    """Who acts."""
    assert isinstance(request.user, User)  # every view here is behind admin_view
    return request.user


def written(request: HttpRequest, name: str = "reason") -> str:
    """What stands in a field of the form: the reason, a note, a name. Without NUL, which PostgreSQL does not take."""
    return request.POST.get(name, "").replace("\x00", "")


def origin(request: HttpRequest) -> str:
    """Where the act came from, for the audit trail."""
    address = request.META.get("REMOTE_ADDR") or "?"
    # The proxy that is trusted to say "https" is trusted with the address of its caller, too: the last one, for whoever calls may write others.
    if settings.SECURE_PROXY_SSL_HEADER and (told := request.headers.get("X-Forwarded-For")):
        address = _address(told.rpartition(",")[2].strip()) or address
    return f"{request.path} ({address})"


def _address(text: str) -> str:
    try:
        return str(ip_address(text))
    except ValueError:
        return ""


def do(request: HttpRequest, verb: Callable[[], object], done: str) -> HttpResponse:
    """Call one verb, tell the person, go back."""
    try:
        verb()
    except REFUSALS as refusal:
        messages.warning(request, str(refusal))
    else:
        messages.success(request, done)
    return back(request)


def back(request: HttpRequest, otherwise: str = CHANGELIST) -> HttpResponseRedirect:
    """To the page that the button was on, or the one named `otherwise`; never to another site."""
    url = written(request, "next")
    if not url_has_allowed_host_and_scheme(url, {request.get_host()}, require_https=request.is_secure()):
        url = reverse(otherwise)
    return HttpResponseRedirect(url)
