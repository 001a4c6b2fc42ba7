"""The screens of the dead letters. Each act is one POST that calls one verb."""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from django.contrib import admin, messages  # noqa: TID251
from django.contrib.admin.views.main import ChangeList
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db.models import Max, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect  # noqa: TID251
from django.shortcuts import get_object_or_404  # noqa: TID251
from django.template.loader import render_to_string
from django.urls import URLPattern, path, reverse
from django.utils.decorators import method_decorator
from django.utils.html import format_html
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.http import require_POST, require_safe

from deadletters import payload
from deadletters.discard import NotDiscardable, discard, discard_many, restore
from deadletters.errors import count_open_errors, open_errors
from deadletters.listing import BigTableAdmin, TooBroad, age_filter, count, patience, value_filter
from deadletters.models import DeadLetter, State
from deadletters.page import page_of
from deadletters.redact import redactor
from deadletters.replay import NotReplayable, Replayed, replay, replay_many
from deadletters.search import TooShort, find
from deadletters.sparkline import sparkline
from deadletters.tabs import ALL, LetterChangeList, chosen_state, tabs

CHANGELIST = "admin:deadletters_deadletter_changelist"
# A list shows none of these, and reading them would cost most of its time.
HEAVY = ("body", "headers", "properties", "sealed", "traceback")


@admin.register(DeadLetter)
class DeadLetterAdmin(BigTableAdmin):
    """By error, flat list, one letter; nothing can be edited, only replayed, discarded and restored."""

    list_display = ("task", "error", "cause", "queue", "tries", "state_chip", "died", "act")
    list_display_links = ("task",)
    list_filter = (
        value_filter("queue", gettext_lazy("queue")),
        value_filter("task_name", gettext_lazy("task")),
        value_filter("cause", gettext_lazy("cause")),
        age_filter("died_at"),
    )
    search_fields = ("task_id", "exception_message", "exception_type", "task_name")
    search_help_text = gettext_lazy("Task id, task name or words of the error")
    actions = ("replay_letters", "discard_letters")
    keyset_field = "died_at"

    # --- Who may -----------------------------------------------------------------------------------------------------

    def has_replay_permission(self, request: HttpRequest) -> bool:
        """May send letters again."""
        return request.user.has_perm("deadletters.replay_deadletter") and self.has_view_permission(request)

    def has_discard_permission(self, request: HttpRequest) -> bool:
        """May give up on letters, and take that back."""
        return request.user.has_perm("deadletters.discard_deadletter") and self.has_view_permission(request)

    def has_payload_permission(self, request: HttpRequest) -> bool:
        """May read what is masked; each reading is noted."""
        return request.user.has_perm(payload.PERMISSION) and self.has_view_permission(request)

    # --- Lists -------------------------------------------------------------------------------------------------------

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return LetterChangeList

    def get_queryset(self, request: HttpRequest) -> QuerySet[DeadLetter]:
        return super().get_queryset(request).defer(*HEAVY)

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        state = chosen_state(request.GET)
        hidden = {"state_chip"} if state != ALL else set()
        if state not in {ALL, State.OPEN} or not self.has_replay_permission(request):
            hidden.add("act")
        return [name for name in self.list_display if name not in hidden]

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        return super().get_actions(request) if chosen_state(request.GET) in {ALL, State.OPEN} else {}

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[DeadLetter], search_term: str
    ) -> tuple[QuerySet[DeadLetter], bool]:
        try:
            return find(queryset, search_term), False
        except TooShort as refusal:
            messages.warning(request, str(refusal))
            return queryset.none(), False

    def list_context(self, request: HttpRequest) -> dict[str, Any]:
        tabs_context = {"tabs": list(tabs(request.GET)), "number": count_open_errors()}
        return {**super().list_context(request), **tabs_context}

    def by_error_view(self, request: HttpRequest) -> HttpResponse:
        """One line for each bug with open letters."""
        self._require(self.has_view_permission(request))
        try:
            with patience():
                context = {
                    "groups": [(group, sparkline(group.hourly)) for group in open_errors()],
                    "number": count_open_errors(),
                    "tabs": list(tabs({"state": "none"})),
                    "may_replay": self.has_replay_permission(request),
                }
        except TooBroad:
            return self.too_broad(request)
        return self.page(request, "deadletters/by_error.html", self.title, **context)

    @admin.display(description=gettext_lazy("Task"))
    def task(self, letter: DeadLetter) -> SafeString:
        """Its name, and enough of its id to tell it from its neighbours."""
        name = letter.task_name or _("(no task)")
        return format_html('{} <span class="o-mono o-quiet">{}</span>', name, letter.task_id[:8])

    @admin.display(description=gettext_lazy("Error"))
    def error(self, letter: DeadLetter) -> SafeString:
        """Type and message on one line."""
        message = redactor().text(letter.exception_message[:2_000])
        return format_html(
            '<span class="o-cut" title="{}"><b>{}</b> <span class="o-quiet">{}</span></span>',
            message[:500], letter.exception_type, message[:160],
        )  # fmt: skip

    @admin.display(description=gettext_lazy("Tries"))
    def tries(self, letter: DeadLetter) -> int:
        """How often it ran before it died."""
        return letter.retries + 1 if letter.started_at else 0

    @admin.display(description=gettext_lazy("State"))
    def state_chip(self, letter: DeadLetter) -> SafeString:
        """Shape and word."""
        return format_html('<span class="o-chip" data-state="{}">{}</span>', letter.state, letter.get_state_display())

    @admin.display(description=gettext_lazy("Died"))
    def died(self, letter: DeadLetter) -> SafeString:
        """How long ago, and when."""
        return render_to_string("_ago.html", {"at": letter.died_at})

    @admin.display(description="", empty_value="")
    def act(self, letter: DeadLetter) -> str:
        """The button of the row; it submits the hidden form of the page, not the list's."""
        return render_to_string("deadletters/_act.html", {"letter": letter}) if letter.state == State.OPEN else ""

    # --- One letter --------------------------------------------------------------------------------------------------

    @method_decorator(require_safe)
    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The page of one letter."""
        self._require(self.has_view_permission(request))
        letter = get_object_or_404(DeadLetter, pk=object_id) if object_id.isdecimal() else None
        if letter is None:
            raise Http404
        return self._letter(request, letter)

    def payload_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """The same page with the payload as it is. No cache keeps it (admin_view says so), and a reload asks again."""
        self._require(self.has_payload_permission(request))
        letter = get_object_or_404(DeadLetter, pk=pk)
        return self._letter(request, letter, payload.read(letter, by=_by(request)))

    def _letter(self, request: HttpRequest, letter: DeadLetter, read: payload.Payload | None = None) -> HttpResponse:
        context = {
            "page": page_of(letter, read),
            "letter": letter,
            "may_replay": self.has_replay_permission(request),
            "may_discard": self.has_discard_permission(request),
            "may_read": self.has_payload_permission(request),
            "unmasked": read is not None,
            "next_url": reverse("admin:deadletters_deadletter_change", args=[letter.pk]),
        }
        return self.page(request, "deadletters/letter.html", str(letter), **context)

    # --- Acts --------------------------------------------------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        def act(route: str, view: Callable[..., HttpResponse], name: str) -> URLPattern:
            return path(route, require_POST(self.admin_site.admin_view(view)), name=f"deadletters_deadletter_{name}")

        by_error = self.admin_site.admin_view(self.by_error_view)
        return [
            path("by-error/", by_error, name="deadletters_deadletter_by_error"),
            act("by-error/replay/", self.replay_error_view, "replay_error"),
            act("<int:pk>/payload/", self.payload_view, "payload"),
            act("<int:pk>/replay/", self.replay_view, "replay"),
            act("<int:pk>/discard/", self.discard_view, "discard"),
            act("<int:pk>/restore/", self.restore_view, "restore"),
            *super().get_urls(),
        ]

    def replay_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Send one letter again."""
        self._require(self.has_replay_permission(request))
        letter = get_object_or_404(DeadLetter, pk=pk)
        return self._do(request, lambda: replay(letter, by=_by(request)), _("%s was sent again.") % letter.task_name)

    def discard_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Give up on one letter."""
        self._require(self.has_discard_permission(request))
        letter, reason = get_object_or_404(DeadLetter, pk=pk), request.POST.get("reason", "")
        done = _("%s was discarded.") % letter.task_name
        return self._do(request, lambda: discard(letter, by=_by(request), reason=reason), done)

    def restore_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Open a discarded letter again."""
        self._require(self.has_discard_permission(request))
        letter = get_object_or_404(DeadLetter, pk=pk)
        return self._do(request, lambda: restore(letter, by=_by(request)), _("%s is open again.") % letter.task_name)

    def replay_error_view(self, request: HttpRequest) -> HttpResponse:
        """Send every open letter of one error again."""
        self._require(self.has_replay_permission(request))
        letters = DeadLetter.objects.open().filter(fingerprint=request.POST.get("fingerprint", ""))
        self._tell(request, replay_many(_light(letters), by=_by(request)))
        return _back(request)

    @admin.action(description=gettext_lazy("Replay selected"), permissions=["replay"])
    def replay_letters(self, request: HttpRequest, letters: QuerySet[DeadLetter]) -> None:
        """Send the ticked letters again."""
        self._tell(request, replay_many(_light(letters), by=_by(request)))

    @admin.action(description=gettext_lazy("Discard selected"), permissions=["discard"])
    def discard_letters(self, request: HttpRequest, letters: QuerySet[DeadLetter]) -> HttpResponse | None:
        """Ask for the reason on a page of its own, then give up on the ticked letters."""
        if (upto := request.POST.get("upto", "")).isdecimal():
            letters = letters.filter(pk__lte=int(upto))  # "all that match" are those that the person was told of
        if "reason" in request.POST:
            try:
                done = discard_many(letters, by=_by(request), reason=request.POST["reason"])
            except NotDiscardable as refusal:
                messages.error(request, str(refusal))
            else:
                said = ngettext("%d dead letter was discarded.", "%d dead letters were discarded.", done)
                messages.success(request, said % done)
                return None
        context = {
            "ids": request.POST.getlist("_selected_action"),
            "across": request.POST.get("select_across", "0"),
            "index": request.POST.get("index", "0"),
            "number": count(letters),
            "letters": letters[:5],
            "upto": letters.order_by().aggregate(upto=Max("pk"))["upto"],
        }
        return self.page(request, "deadletters/discard.html", _("Discard dead letters"), **context)

    # --- How acts answer ---------------------------------------------------------------------------------------------

    @staticmethod
    def _require(allowed: bool) -> None:  # noqa: FBT001  (the question's answer is the argument)
        if not allowed:
            raise PermissionDenied

    def _do(self, request: HttpRequest, verb: Callable[[], object], done: str) -> HttpResponse:
        try:
            verb()
        except (NotReplayable, NotDiscardable) as refusal:
            messages.warning(request, str(refusal))
        else:
            messages.success(request, done)
        return _back(request)

    def _tell(self, request: HttpRequest, replayed: Replayed) -> None:
        if replayed.sent or not replayed.refused:
            said = ngettext("%d dead letter was sent again.", "%d dead letters were sent again.", replayed.sent)
            messages.success(request, said % replayed.sent)
        for reason, number in Counter(reason for _task_id, reason in replayed.refused).most_common(3):
            messages.warning(request, _("%(number)d not sent: %(reason)s") % {"number": number, "reason": reason})


def _light(letters: QuerySet[DeadLetter]) -> Iterator[DeadLetter]:
    # The verb reads each letter again under its lock: no need to hold thousands of bodies and tracebacks.
    return letters.defer(None).only("pk", "task_id").order_by("pk").iterator(chunk_size=500)


def _by(request: HttpRequest) -> User:
    assert isinstance(request.user, User)  # every view here is behind admin_view
    return request.user


def _back(request: HttpRequest) -> HttpResponseRedirect:
    """To the page that the button was on; never to another site."""
    url = request.POST.get("next", "")
    if not url_has_allowed_host_and_scheme(url, {request.get_host()}, require_https=request.is_secure()):
        url = reverse(CHANGELIST)
    return HttpResponseRedirect(url)
