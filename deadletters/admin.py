"""The lists of the dead letters. Each act is one POST that calls one verb."""

from typing import Any
from urllib.parse import urlencode

from django.contrib import admin, messages  # noqa: TID251
from django.contrib.admin.views.main import ChangeList
from django.db.models import Max, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect  # noqa: TID251
from django.template.loader import render_to_string
from django.urls import URLPattern, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from deadletters.console import act_admin, redrive_admin  # noqa: F401  (they register theirs)
from deadletters.console.dialog import asked, letter_number
from deadletters.console.doors import REFUSALS, by, origin, written
from deadletters.console.error_admin import ErrorViews
from deadletters.console.errors import count_open_errors
from deadletters.console.letter_admin import LetterViews
from deadletters.console.listing import age_filter, count, value_filter
from deadletters.console.names import breakable
from deadletters.console.tabs import ALL, LetterChangeList, chosen_state, tabs
from deadletters.models import DeadLetter, Redrive, State
from deadletters.redrive.redrive import start
from deadletters.redrive.tend import launch
from deadletters.replay.discard import discard_many, restore_many
from deadletters.search import TooShort, find
from deadletters.secrets.redact import redactor
from deadletters.selection import Selection

# A list shows none of these, and reading them would cost most of its time.
HEAVY = ("body", "headers", "properties", "sealed", "traceback")


@admin.register(DeadLetter)
class DeadLetterAdmin(LetterViews, ErrorViews):
    """By error, flat list, one letter; nothing can be edited in place, only replayed, discarded and restored."""

    list_display = ("task", "error", "cause", "queue", "tries", "state_chip", "died", "act")
    list_display_links = ("task",)
    narrowed_by = ("state", "fingerprint", "root_id", "task_id")
    list_filter = (
        value_filter("queue", gettext_lazy("queue")),
        value_filter("task_name", gettext_lazy("task")),
        value_filter("cause", gettext_lazy("cause")),
        age_filter("died_at"),
    )
    search_fields = ("task_id", "exception_message", "exception_type", "task_name")
    search_help_text = gettext_lazy("Task id, task name or words of the error")
    actions = ("replay_letters", "discard_letters", "restore_letters")
    keyset_field = "died_at"

    def get_urls(self) -> list[URLPattern]:
        return [*self.error_urls(), *self.letter_urls(), *super().get_urls()]

    # --- List --------------------------------------------------------------------------------------------------------

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
        state, found = chosen_state(request.GET), super().get_actions(request)
        fitting = {
            State.OPEN: {"replay_letters", "discard_letters"},
            State.DISCARDED: {"restore_letters"},
            ALL: {"replay_letters", "discard_letters", "restore_letters"},
        }.get(state, set())
        return {name: action for name, action in found.items() if name in fitting}

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

    @admin.display(description=gettext_lazy("Task"))
    def task(self, letter: DeadLetter) -> SafeString:
        """Its name, and enough of its id to tell it from its neighbours."""
        name = letter.task_name or _("(no task)")
        return format_html('{} <span class="o-mono o-quiet">{}</span>', breakable(name), letter.task_id[:8])

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
        """The button of the row; it submits the hidden form of the page, not the list's. No template: that would be a tenth of the page's time."""
        if letter.state != State.OPEN:
            return ""
        task = letter.task_name
        return format_html(
            '<button type="submit" class="o-btn o-btn-s" form="o-post" formaction="{}" data-confirm="{}" data-confirm-more="{}" aria-label="{}">{}</button>',
            reverse("admin:deadletters_deadletter_replay", args=[letter.pk]),
            _("Replay %(task)s?") % {"task": task},
            _("It is sent to its queue again, and what waits behind it goes on."),
            _("Replay %(task)s %(id)s") % {"task": task, "id": letter.task_id[:8]},
            _("Replay"),
        )

    # --- Acts on many ------------------------------------------------------------------------------------------------

    @admin.action(description=gettext_lazy("Replay selected"), permissions=["bulk"])
    def replay_letters(self, request: HttpRequest, letters: QuerySet[DeadLetter]) -> HttpResponse | None:
        """All that match: ask how. Ticked ones: start a redrive of them."""
        if request.POST.get("select_across") == "1":
            return HttpResponseRedirect(f"{reverse('admin:deadletters_redrive_new')}?{request.GET.urlencode()}")
        numbers = tuple(map(int, request.POST.getlist("_selected_action")))
        try:
            redrive = start(Selection(numbers=numbers), by=by(request), origin=origin(request))
        except REFUSALS as refusal:
            messages.warning(request, str(refusal))
            return None
        launch(redrive)
        link = format_html(
            '<a href="{}">{}</a>', reverse("admin:deadletters_redrive_change", args=[redrive.pk]), redrive
        )
        said = ngettext("%d dead letter was sent again", "%d dead letters were sent again", redrive.sent) % redrive.sent
        messages.success(request, format_html("{} ({}).", said, link))
        if left := len(numbers) - redrive.sent:
            over = redrive.state in {Redrive.State.WATCHING, Redrive.State.DONE}
            skipped = _("%d not sent: no longer open, or skipped; the redrive says why.")
            messages.warning(
                request, (skipped if over else _("%d not sent yet: the redrive goes on with them.")) % left
            )
        return None

    @admin.action(description=gettext_lazy("Discard selected"), permissions=["discard"])
    def discard_letters(self, request: HttpRequest, letters: QuerySet[DeadLetter]) -> HttpResponse | None:
        """Ask for the reason on a page of its own, then give up on the ticked letters."""
        if (upto := letter_number(request.POST.get("upto", ""))) is not None:
            letters = letters.filter(pk__lte=upto)  # "all that match" are those that the person was told of
        # A replay that is under way is given up on its own page, with open eyes.
        letters = letters.filter(state=State.OPEN)
        if "reason" in request.POST:
            about = {"origin": origin(request), "subject": _subject(request)}
            try:
                done = discard_many(letters, by=by(request), reason=written(request), **about)
            except REFUSALS as refusal:
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

    @admin.action(description=gettext_lazy("Restore selected"), permissions=["discard"])
    def restore_letters(self, request: HttpRequest, letters: QuerySet[DeadLetter]) -> None:
        """Open the ticked letters that were discarded."""
        done = restore_many(letters, by=by(request), origin=origin(request), subject=_subject(request))
        messages.success(
            request, ngettext("%d dead letter is open again.", "%d dead letters are open again.", done) % done
        )


def _subject(request: HttpRequest) -> str:
    """Which letters, for the audit trail: the list's filter, or how many were ticked."""
    if request.POST.get("select_across") != "1":
        return _("%d ticked letters") % len(request.POST.getlist("_selected_action"))
    try:
        return asked(request.GET.dict())[0].in_words()
    except REFUSALS:
        return urlencode(request.GET)
