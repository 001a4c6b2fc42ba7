"""Everything that the page of one letter shows. Read-only."""

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.utils.module_loading import import_string
from django.utils.safestring import SafeString

from deadletters import traceback
from deadletters.causes import HELP
from deadletters.envelope import Envelope
from deadletters.listing import Count, count
from deadletters.models import Cause, DeadLetter, Event
from deadletters.workflow import sets_free

# Of what follows a letter, this many tasks are named.
NAMED = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One letter, ready for its template."""

    letter: DeadLetter
    help: str
    raised: list[traceback.Raised]
    raw: SafeString
    cut: bool
    args: SafeString | None  # None: the body cannot be read
    kwargs: SafeString | None
    envelope: SafeString
    trail: list[Event]
    same_error: Count
    behind: list[str]
    behind_more: int
    run_url: str | None


def page_of(letter: DeadLetter) -> Page:
    """Read and prepare it."""
    arguments = Envelope.of(letter).arguments()
    behind = sets_free(letter)
    names = behind.names[:NAMED]
    return Page(
        letter=letter,
        help=str(HELP.get(Cause(letter.cause), "")),
        raised=traceback.parse(letter.traceback),
        raw=traceback.coloured_traceback(letter.traceback),
        cut=len(letter.traceback) > traceback.LIMIT,
        args=_pretty(arguments.args) if arguments else None,
        kwargs=_pretty(arguments.kwargs) if arguments else None,
        envelope=_pretty(_envelope(letter)),
        trail=list(letter.events.select_related("actor")),
        same_error=count(DeadLetter.objects.open().filter(fingerprint=letter.fingerprint).exclude(pk=letter.pk)),
        behind=names,
        behind_more=len(behind.task_ids) - len(names),
        run_url=_run_url(letter.task_id),
    )


def _pretty(value: Any) -> SafeString:
    return traceback.coloured_json(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def _envelope(letter: DeadLetter) -> dict[str, Any]:
    body = bytes(letter.body)
    try:
        shown: Any = json.loads(body)
    except ValueError:
        shown = {"base64": base64.b64encode(body[: traceback.LIMIT]).decode()}
    return {
        "headers": letter.headers,
        "properties": letter.properties,
        "exchange": letter.exchange,
        "routing_key": letter.routing_key,
        "queue": letter.queue,
        "content_type": letter.content_type,
        "content_encoding": letter.content_encoding,
        "bytes": len(body),
        "body": shown,
    }


def _run_url(task_id: str) -> str | None:
    """Where the workflow of this task is shown, if the project has such a page: DEADLETTERS_RUN_URL names a function of the task id."""
    dotted: str = getattr(settings, "DEADLETTERS_RUN_URL", "")
    if not dotted:
        return None
    url_of: Callable[[str], str | None] = import_string(dotted)
    return url_of(task_id)
