"""Edit a letter's message and replay it: other arguments, another queue, a short delay. The original is kept, the difference is told."""

import difflib
import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from celery import current_app
from celery.utils.saferepr import saferepr
from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _
from kombu.utils.json import dumps

from deadletters import audit
from deadletters.distinct import distinct_values
from deadletters.envelope import NOT_BEFORE, Arguments, Envelope, NoEnvelope
from deadletters.models import Act, DeadLetter, Event, Original
from deadletters.replay.claim import claim
from deadletters.replay.edit_json import as_json, read
from deadletters.replay.preflight import misfit
from deadletters.replay.replay import NotReplayable, send
from deadletters.secrets.redact import redactor, restore
from deadletters.secrets.redact_text import MASK
from deadletters.secrets.reprs import LENGTH

# A longer delay would be held by a worker for so long that Redis gives the message to a second one.
LONGEST_DELAY = 900
# What an edit writes, and the original keeps; sealed or plain, as the letter's own.
_PAYLOAD = ("headers", "properties", "body", "sealed", "seal_key", "content_type", "content_encoding", "queue")


class BadEdit(ValueError):
    """The edit cannot be sent; the text says why, `field` where."""

    def __init__(self, field: str, why: str) -> None:
        super().__init__(why)
        self.field = field


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """What is to be different. `delay` in seconds."""

    args: list[Any]
    kwargs: dict[str, Any]
    queue: str
    delay: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One parameter of the task, as a form shows it: its value is JSON."""

    name: str
    value: str
    hint: str
    required: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """What the page of an edit shows; without `fields` the JSON is the only way."""

    mode: str
    fields: list[Field]
    args: str
    kwargs: str
    queue: str
    queues: list[str]
    delay: str
    reason: str


def edit_and_replay(letter: DeadLetter, edit: Edit, *, by: User | None, reason: str = "", origin: str = "") -> int:
    """Store the edited message in the letter, keep the one before, and replay it. Returns the replay's number.

    Raises:
        BadEdit: arguments that do not fit the task, no such queue, too long a delay.
        NotReplayable, NotSent: as `replay`; after NotSent the letter is open again, with the edit.
    """
    before = _arguments(letter)
    _check(letter, edit)
    told = difference(letter, before, edit)
    with transaction.atomic(durable=True):
        locked = DeadLetter.objects.select_for_update().get(pk=letter.pk)
        Original.objects.create(
            dead_letter=locked,
            replay_number=locked.replay_number + 1,
            **{name: getattr(locked, name) for name in _PAYLOAD},
        )
        _store(locked, edit, before.embed)
        claimed = claim([letter.pk], by=by, reason=reason)
        for _task_id, why in claimed.refused:
            raise NotReplayable(why)
        (ready,) = claimed.letters
        number: int = ready.replay_number
        Event.objects.create(
            dead_letter=ready, kind=Event.Kind.EDITED, at=timezone.now(), actor=by, replay_number=number, text=told
        )
        details = {"difference": told, "delay": edit.delay}
        audit.record(Act.Verb.EDITED, by=by, reason=reason, origin=origin, letter=ready, details=details)
    send(ready, by=by)
    return number


def parse(letter: DeadLetter, posted: Mapping[str, str]) -> Edit:
    """An edit out of a form: `mode` json (args, kwargs) or form (a `p_NAME` for each parameter); queue and delay.

    Raises:
        BadEdit: what cannot be read, and where.
    """
    try:
        if posted.get("mode") == "form":
            args, kwargs = _from_fields(letter, posted)
        else:
            args, kwargs = _json("args", posted.get("args", ""), list), _json("kwargs", posted.get("kwargs", ""), dict)
        args, kwargs = _true(letter, args, kwargs)
    except RecursionError:
        raise BadEdit("args", _("The arguments are nested too deeply.")) from None
    delay = posted.get("delay", "").strip() or "0"
    if not delay.isdecimal() or len(delay) > 9 or int(delay) > LONGEST_DELAY:
        raise BadEdit("delay", _("A delay is a number of seconds from 0 to %d.") % LONGEST_DELAY)
    return Edit(args=args, kwargs=kwargs, queue=posted.get("queue", "").strip() or letter.queue, delay=int(delay))


def form_of(letter: DeadLetter, posted: Mapping[str, str] | None = None) -> Form:
    """The form with the letter's own values, or with those that were posted and refused.

    Raises:
        BadEdit: there is nothing to edit.
    """
    (args, kwargs), given = _shown(letter, _arguments(letter)), posted or {}
    found = fields(letter)
    return Form(
        mode=given.get("mode") or ("form" if found else "json"),
        fields=[replace(one, value=given.get(f"p_{one.name}", one.value)) for one in found or []],
        args=given.get("args", as_json(args)),
        kwargs=given.get("kwargs", as_json(kwargs)),
        queue=given.get("queue", letter.queue),
        queues=known_queues(),
        delay=given.get("delay", "0"),
        reason=given.get("reason", ""),
    )


def fields(letter: DeadLetter) -> list[Field] | None:
    """The task's parameters with this letter's values; None when there is no form to make (unknown here, *args, or they don't fit)."""
    signature = _signature(letter.task_name)
    args, kwargs = _shown(letter, _arguments(letter))
    if signature is None:
        return None
    try:
        bound = signature.bind(*args, **kwargs).arguments
    except TypeError:
        return None
    secret = redactor().with_rules(letter.secret_arguments).rule(letter.task_name)[0]
    return [
        Field(
            name=name,
            value=as_json(bound[name], indent=None) if name in bound else "",
            hint=_hint(parameter, secret=name in secret),
            required=parameter.default is parameter.empty,
        )
        for name, parameter in signature.parameters.items()
    ]


def known_queues() -> list[str]:
    """Queues that a message may be sent to: those that the app declares, and those that letters came from."""
    return sorted({*current_app.amqp.queues, *distinct_values(DeadLetter, "queue")})


def difference(letter: DeadLetter, before: Arguments, edit: Edit) -> str:
    """What the edit changes, as lines with - and +; secrets are masked in both."""
    was, becomes = _shown(letter, before), _shown(letter, Arguments(args=edit.args, kwargs=edit.kwargs, embed={}))
    old = [line for part in was for line in as_json(part).splitlines()] + [f"queue: {letter.queue}"]
    new = [line for part in becomes for line in as_json(part).splitlines()] + [f"queue: {edit.queue}"]
    if edit.delay:
        new.append(f"delay: {edit.delay} s")
    lines = [line for line in difflib.ndiff(old, new) if line[0] in "+-"]
    return "\n".join(lines) or _("nothing was changed")


def _shown(letter: DeadLetter, arguments: Arguments) -> tuple[list[Any], dict[str, Any]]:
    """The arguments as people may see them: nobody needs to read a secret to edit what is beside it."""
    mask = redactor().with_rules(letter.secret_arguments)
    args, kwargs = mask.arguments(letter.task_name, arguments.args, arguments.kwargs)
    return list(args), dict(kwargs)


def _true(letter: DeadLetter, args: list[Any], kwargs: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """What was typed, with the true values wherever a mask was left alone."""
    arguments = _arguments(letter)
    shown_args, shown_kwargs = _shown(letter, arguments)
    args, kwargs = restore(args, arguments.args, shown_args), restore(kwargs, arguments.kwargs, shown_kwargs)
    if MASK in as_json([args, kwargs]) and MASK not in as_json([arguments.args, arguments.kwargs]):
        raise BadEdit("args", _("%s stands where it stood before or not at all: write the true value.") % MASK)
    return args, kwargs


def _arguments(letter: DeadLetter) -> Arguments:
    try:
        arguments = Envelope.of(letter).arguments()
    except NoEnvelope as problem:
        raise BadEdit("args", str(problem)) from None
    if arguments is None:
        raise BadEdit("args", _("The body is not the JSON of a task message: there is nothing to edit."))
    return arguments


def _check(letter: DeadLetter, edit: Edit) -> None:
    if why := misfit(letter.task_name, Arguments(args=edit.args, kwargs=edit.kwargs, embed={})):
        raise BadEdit("args", why)
    if edit.queue != letter.queue and edit.queue not in known_queues():
        raise BadEdit("queue", _("There is no queue %s.") % edit.queue)
    if not 0 <= edit.delay <= LONGEST_DELAY:
        raise BadEdit("delay", _("A delay is a number of seconds from 0 to %d.") % LONGEST_DELAY)


def _store(letter: DeadLetter, edit: Edit, embed: dict[str, Any]) -> None:
    before = Envelope.of(letter)
    # What workers log, and store with the result, is masked here: this message does not pass Celery's own sending.
    args, kwargs = _shown(letter, Arguments(args=edit.args, kwargs=edit.kwargs, embed={}))
    headers = {**before.headers, "argsrepr": saferepr(tuple(args), LENGTH), "kwargsrepr": saferepr(kwargs, LENGTH)}
    headers.pop(NOT_BEFORE, None)
    if edit.delay:
        headers[NOT_BEFORE] = (timezone.now() + timedelta(seconds=edit.delay)).isoformat()
    after = replace(before, headers=headers, body=dumps([edit.args, edit.kwargs, embed]).encode())
    for name, value in after.columns().items():
        setattr(letter, name, json.loads(value) if name in {"headers", "properties"} else value)
    letter.content_type, letter.content_encoding, letter.queue = "application/json", "utf-8", edit.queue
    letter.save(update_fields=list(_PAYLOAD))


def _json(name: str, text: str, kind: type[Any]) -> Any:
    try:
        value = read(text.strip() or ("[]" if kind is list else "{}"))
    except ValueError as problem:
        raise BadEdit(name, _("%(name)s is no JSON: %(problem)s") % {"name": name, "problem": problem}) from None
    if not isinstance(value, kind):
        wanted = _("a list, like [1, 2]") if kind is list else _('an object, like {"key": 1}')
        raise BadEdit(name, _("%(name)s has to be %(wanted)s.") % {"name": name, "wanted": wanted})
    return value


def _from_fields(letter: DeadLetter, posted: Mapping[str, str]) -> tuple[list[Any], dict[str, Any]]:
    """What was given by position stays so; the rest goes by name."""
    signature, positional = _signature(letter.task_name), len(_arguments(letter).args)
    if signature is None:
        raise BadEdit("args", _("There is no form for this task; edit the JSON."))
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for place, (name, parameter) in enumerate(signature.parameters.items()):
        text = posted.get(f"p_{name}", "").strip()
        if not text:
            if parameter.default is parameter.empty:
                raise BadEdit(f"p_{name}", _("%s is needed.") % name)
            positional = min(positional, place)
            continue
        try:
            value = read(text)
        except ValueError:
            raise BadEdit(f"p_{name}", _("%s is no JSON; a text stands in double quotes.") % name) from None
        if place < positional and parameter.kind is not parameter.KEYWORD_ONLY:
            args.append(value)
        else:
            kwargs[name] = value
    return args, kwargs


def _signature(task_name: str) -> inspect.Signature | None:
    task: Any = current_app.tasks.get(task_name)
    if task is None:
        return None
    signature = inspect.signature(task.run)
    open_ended = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}
    return None if any(one.kind in open_ended for one in signature.parameters.values()) else signature


def _hint(parameter: inspect.Parameter, *, secret: bool) -> str:
    words = [] if parameter.annotation is parameter.empty else [inspect.formatannotation(parameter.annotation)]
    if parameter.default is not parameter.empty:
        plain = not secret or parameter.default in (None, "", True, False)  # nothing to hide
        words.append(_("default %s") % (saferepr(parameter.default) if plain else MASK))
    return ", ".join(words)
