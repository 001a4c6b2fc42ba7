"""What a letter's message holds: masked for everybody, as it is for those who may read it, which is noted."""

import base64
import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from deadletters import audit
from deadletters.envelope import Envelope, NoEnvelope, to_json
from deadletters.models import Act, DeadLetter, Event
from deadletters.secrets.redact import redactor
from deadletters.secrets.redact_text import MASK

PERMISSION = "deadletters.view_payload"
# Of bytes that are no JSON, so many are shown.
_SHOWN = 48 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Payload:
    """Arguments and envelope as JSON shows them."""

    # None: the body is no task's.
    args: Any = None
    kwargs: Any = None
    envelope: dict[str, Any] | None = None
    # Whether something of it is masked.
    masked: bool = False
    # Why there is none; a sentence.
    problem: str = ""


def masked(letter: DeadLetter) -> Payload:
    """What everybody may see who may see the letter."""
    try:
        envelope = Envelope.of(letter)
    except NoEnvelope as problem:
        return Payload(problem=str(problem))
    mask, found = redactor().with_rules(letter.secret_arguments), set[str]()
    arguments = envelope.arguments()
    if arguments:
        args, kwargs = mask.arguments(letter.task_name, arguments.args, arguments.kwargs, found)
        body: Any = [args, kwargs, mask.value(arguments.embed, found)]
    else:
        args, kwargs, body = None, None, mask.value(_body(envelope), found)
        if isinstance(body, dict) and list(body) == ["base64"]:  # nobody can say what these bytes hold
            body, found = {"base64": MASK}, {MASK}
    headers = mask.headers(_plain(envelope.headers), args, kwargs, found)
    facts = _facts(envelope, headers, mask.value(_plain(envelope.properties), found), body)
    return Payload(args=args, kwargs=kwargs, envelope=facts, masked=bool(found))


def read(letter: DeadLetter, *, by: User, origin: str = "") -> Payload:
    """The payload as it is. That it was read, and by whom, stands in both trails before anybody sees it: one goes with the letter, one stays.

    Raises:
        PermissionDenied: `by` may not.
    """
    if not by.has_perm(PERMISSION):
        raise PermissionDenied(
            _("%(user)s may not read payloads: the permission %(name)s is missing.") % {"user": by, "name": PERMISSION}
        )
    try:
        envelope = Envelope.of(letter)
    except NoEnvelope as problem:
        return Payload(problem=str(problem))
    with transaction.atomic():
        Event.objects.create(
            dead_letter=letter, kind=Event.Kind.READ, at=timezone.now(), actor=by, replay_number=letter.replay_number
        )
        audit.record(Act.Verb.PAYLOAD_READ, by=by, origin=origin, letter=letter)
    arguments = envelope.arguments()
    return Payload(
        args=arguments.args if arguments else None,
        kwargs=arguments.kwargs if arguments else None,
        envelope=_facts(envelope, _plain(envelope.headers), _plain(envelope.properties), _body(envelope)),
    )


def _body(envelope: Envelope) -> Any:
    """The body as JSON shows it: itself, or its text, or its bytes in base64."""
    with contextlib.suppress(ValueError):
        return json.loads(envelope.body)
    try:
        return {"text": envelope.body.decode()}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(envelope.body[:_SHOWN]).decode()}


def _plain(mapping: Mapping[str, Any]) -> Any:
    return json.loads(to_json(mapping))


def _facts(envelope: Envelope, headers: Any, properties: Any, body: Any) -> dict[str, Any]:
    return {
        "headers": headers,
        "properties": properties,
        "exchange": envelope.exchange,
        "routing_key": envelope.routing_key,
        "queue": envelope.queue,
        "content_type": envelope.content_type,
        "content_encoding": envelope.content_encoding,
        "bytes": len(envelope.body),
        "body": body,
    }
