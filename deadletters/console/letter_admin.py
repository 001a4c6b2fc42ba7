"""One letter: its page, and what can be done with it."""

from typing import Any

from django.contrib import messages  # noqa: TID251
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect  # noqa: TID251
from django.shortcuts import get_object_or_404  # noqa: TID251
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.decorators import method_decorator
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from deadletters.console.doors import REFUSALS, by, do, origin, require, written
from deadletters.console.listing import BigTableAdmin
from deadletters.console.page import page_of
from deadletters.models import DeadLetter, State
from deadletters.replay import edit
from deadletters.replay.cluster import inspection
from deadletters.replay.discard import discard, restore
from deadletters.replay.preflight import preflight
from deadletters.replay.replay import replay
from deadletters.secrets import payload


class LetterViews(BigTableAdmin):
    """The part of the admin that is about one letter."""

    def has_replay_permission(self, request: HttpRequest) -> bool:
        """May send one letter again."""
        return request.user.has_perm("deadletters.replay_deadletter") and self.has_view_permission(request)

    def has_edit_permission(self, request: HttpRequest) -> bool:
        """May change a letter's message and send that."""
        return request.user.has_perm("deadletters.edit_deadletter") and self.has_view_permission(request)

    def has_discard_permission(self, request: HttpRequest) -> bool:
        """May give up on letters, and take that back."""
        return request.user.has_perm("deadletters.discard_deadletter") and self.has_view_permission(request)

    def has_payload_permission(self, request: HttpRequest) -> bool:
        """May read what is masked; each reading is noted."""
        return request.user.has_perm(payload.PERMISSION) and self.has_view_permission(request)

    def letter_urls(self) -> list[URLPattern]:
        """Where they are."""

        def named(route: str, view: Any, name: str) -> URLPattern:
            found: URLPattern = path(route, self.admin_site.admin_view(view), name=f"deadletters_deadletter_{name}")
            return found

        return [
            named("<int:pk>/payload/", require_POST(self.payload_view), "payload"),
            named("<int:pk>/replay/", require_POST(self.replay_view), "replay"),
            named("<int:pk>/discard/", require_POST(self.discard_view), "discard"),
            named("<int:pk>/restore/", require_POST(self.restore_view), "restore"),
            named("<int:pk>/edit/", require_http_methods(["GET", "HEAD", "POST"])(self.edit_view), "edit"),
            named("<int:pk>/preflight/", require_safe(self.preflight_view), "preflight"),
        ]

    @method_decorator(require_safe)
    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The page of one letter."""
        require(self.has_view_permission(request))
        letter = get_object_or_404(DeadLetter, pk=object_id) if object_id.isdecimal() else None
        if letter is None:
            raise Http404
        return self._letter(request, letter)

    def payload_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """The same page with the payload as it is. No cache keeps it (admin_view says so), and a reload asks again."""
        require(self.has_payload_permission(request))
        letter = get_object_or_404(DeadLetter, pk=pk)
        return self._letter(request, letter, payload.read(letter, by=by(request), origin=origin(request)))

    def _letter(self, request: HttpRequest, letter: DeadLetter, read: payload.Payload | None = None) -> HttpResponse:
        # The workers are asked beside the page, not before it; without JavaScript on request.
        known = inspection.fresh() or "preflight" in request.GET
        context = {
            "page": page_of(letter, read),
            "letter": letter,
            "check": preflight([letter])[0] if known and letter.state == State.OPEN else None,
            "may_replay": self.has_replay_permission(request),
            "may_edit": self.has_edit_permission(request),
            "may_discard": self.has_discard_permission(request),
            "may_read": self.has_payload_permission(request),
            "unmasked": read is not None,
            "next_url": reverse("admin:deadletters_deadletter_change", args=[letter.pk]),
        }
        return self.page(request, "deadletters/letter.html", str(letter), **context)

    def preflight_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """What speaks against a replay: the part of the page that asks the workers."""
        require(self.has_view_permission(request))
        letter = get_object_or_404(DeadLetter, pk=pk)
        answer = TemplateResponse(request, "deadletters/_preflight.html", {"check": preflight([letter])[0]})
        answer.headers["X-Poll-Stop"] = "1"
        return answer

    def replay_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Send one letter again."""
        require(self.has_replay_permission(request))
        letter, reason = get_object_or_404(DeadLetter, pk=pk), written(request)
        done = _("%s was sent again.") % letter.task_name
        return do(request, lambda: replay(letter, by=by(request), reason=reason, origin=origin(request)), done)

    def discard_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Give up on one letter."""
        require(self.has_discard_permission(request))
        letter, reason = get_object_or_404(DeadLetter, pk=pk), written(request)
        done = _("%s was discarded.") % letter.task_name
        return do(request, lambda: discard(letter, by=by(request), reason=reason, origin=origin(request)), done)

    def restore_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Open a discarded letter again."""
        require(self.has_discard_permission(request))
        letter, done = get_object_or_404(DeadLetter, pk=pk), _("%s is open again.")
        return do(request, lambda: restore(letter, by=by(request), origin=origin(request)), done % letter.task_name)

    def edit_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """The form of an edit, and what is done with it."""
        require(self.has_edit_permission(request))
        letter, problem = get_object_or_404(DeadLetter, pk=pk), None
        there = reverse("admin:deadletters_deadletter_change", args=[pk])
        try:
            if request.method == "POST":
                try:
                    wanted = edit.parse(letter, request.POST.dict())
                    edit.edit_and_replay(
                        letter, wanted, by=by(request), reason=written(request), origin=origin(request)
                    )
                except edit.BadEdit as refusal:
                    problem = refusal
                else:
                    messages.success(request, _("%s was sent again, edited.") % letter.task_name)
                    return HttpResponseRedirect(there)
            form = edit.form_of(letter, request.POST.dict())
        except REFUSALS as refusal:
            messages.warning(request, str(refusal))
            return HttpResponseRedirect(there)
        context = {"letter": letter, "form": form, "problem": problem, "longest": edit.LONGEST_DELAY}
        return self.page(request, "deadletters/edit.html", _("Edit and replay"), **context)
