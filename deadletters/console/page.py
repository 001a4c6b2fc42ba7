"""Everything that the page of one letter shows. Read-only."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from django.conf import settings
from django.utils.module_loading import import_string
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from deadletters.audit import acts_of
from deadletters.causes import HELP
from deadletters.console import traceback
from deadletters.console.listing import Count, count
from deadletters.envelope import clean
from deadletters.models import Act, Cause, DeadLetter, ErrorGroup, Event, Redrive, RedriveItem, State
from deadletters.replay.workflow import sets_free
from deadletters.secrets.payload import Payload, masked
from deadletters.secrets.redact import redactor

# Of what follows a letter, this many tasks are named.
NAMED = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A line of the trail that is no event of its own: a redrive sent the letter. Its fields are called as an event's."""

    at: datetime
    redrive_id: int
    actor: str
    text: str
    kind: str = Event.Kind.REPLAYED.value

    def get_kind_display(self) -> str:
        """The line's first word."""
        return _("Redriven")


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One letter, ready for its template."""

    letter: DeadLetter
    help: str
    raised: list[traceback.Raised]
    raw: SafeString
    cut: bool
    payload: Payload
    args: SafeString | None  # None: the body cannot be read
    kwargs: SafeString | None
    envelope: SafeString
    message: str
    left_out: bool  # the traceback
    # A letter of the same error that still has its traceback, where this one's was not kept.
    example: DeadLetter | None
    trail: list[Event | Sent]
    acts: list[Act]
    group: ErrorGroup | None
    same_error: Count
    behind: list[str]
    behind_more: int
    run_url: str | None


def page_of(letter: DeadLetter, payload: Payload | None = None) -> Page:
    """Read and prepare it; with its payload as it is, if that was read, else masked."""
    payload, mask = payload or masked(letter), redactor()
    behind = sets_free(letter)
    names = behind.names[:NAMED]
    # Masked when it was stored; once more for names that are secret only since then.
    text = mask.text(letter.traceback)
    same = DeadLetter.objects.filter(fingerprint=letter.fingerprint)
    return Page(
        letter=letter,
        help=str(HELP.get(Cause(letter.cause), "")),
        raised=traceback.parse(text),
        raw=traceback.coloured_traceback(text),
        cut=len(text) > traceback.LIMIT,
        payload=payload,
        args=None if payload.args is None else _pretty(payload.args),
        kwargs=None if payload.kwargs is None else _pretty(payload.kwargs),
        envelope=_pretty(payload.envelope),
        message=mask.text(letter.exception_message),
        left_out=not letter.traceback_kept,
        example=None if letter.traceback_kept else same.filter(traceback_kept=True).only("pk").first(),
        trail=_trail(letter),
        acts=acts_of(DeadLetter.objects.filter(pk=letter.pk)),
        group=ErrorGroup.objects.filter(pk=letter.fingerprint).first(),
        same_error=_others(letter, count(same.filter(state=State.OPEN))),
        behind=names,
        behind_more=len(behind.task_ids) - len(names),
        run_url=_run_url(letter.task_id),
    )


def _others(letter: DeadLetter, same: Count) -> Count:
    """Without the letter itself; to exclude it in SQL would read each row, where the index has the number."""
    return replace(same, number=same.number - 1) if letter.state == State.OPEN else same


def _trail(letter: DeadLetter) -> list[Event | Sent]:
    """Events, and the redrives that sent it, each before the end of that very replay."""
    events = list(letter.events.select_related("actor"))
    trail: list[Event | Sent] = []
    items = letter.redrive_items.exclude(outcome=RedriveItem.Outcome.SKIPPED).select_related("redrive")
    sent = {item.replay_number: item.redrive for item in items}
    for event in events:
        event.text = redactor().text(event.text)
        if event.kind != Event.Kind.REPLAYED and (redrive := sent.pop(event.replay_number, None)):
            trail.append(_sent(redrive))
        trail.append(event)
    return trail + [_sent(redrive) for redrive in sent.values()]


def _sent(redrive: Redrive) -> Sent:
    return Sent(at=redrive.created_at, redrive_id=redrive.pk, actor=redrive.who, text=redrive.reason)


def _pretty(value: Any) -> SafeString:
    return traceback.coloured_json(clean(json.dumps(value, indent=2, ensure_ascii=False, default=str)))


def _run_url(task_id: str) -> str | None:
    """Where the workflow of this task is shown, if the project has such a page: DEADLETTERS_RUN_URL names a function of the task id."""
    dotted: str = getattr(settings, "DEADLETTERS_RUN_URL", "")
    if not dotted:
        return None
    url_of: Callable[[str], str | None] = import_string(dotted)
    return url_of(task_id)
