"""A message and its stored form, plain or sealed, lossless both ways. Pure: no database, no broker."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self
from uuid import uuid4

from django.utils.translation import gettext as _
from kombu.exceptions import ContentDisallowed, DecodeError, KombuError
from kombu.serialization import loads as decode_body
from kombu.serialization import prepare_accept_content
from kombu.utils.json import dumps, loads

from deadletters.models import DeadLetter
from deadletters.secrets import seal

# The header that carries a replay's number; its absence costs a succeeding task one dictionary look-up.
REPLAY_HEADER = "dead_letter_replay"
# The header that tells copies of one message apart: an id for each sending of it (copies.py).
COPY_HEADER = "message_copy"

# The columns of a payload that was not kept.
NOTHING: Mapping[str, Any] = {"headers": "{}", "properties": "{}", "body": b"", "sealed": None, "seal_key": ""}

# Set by an edit that delays its replay: the moment, as an ISO date.
NOT_BEFORE = "dead_letter_not_before"

# What is nested deeper, no worker takes (nonsense.py), and looking at it would end in a RecursionError.
_DEEPEST = 100
_TOO_DEEP = "(nested too deeply to be kept)"

# What belongs to one delivery, or (py-amqp) repeats what the message has fields for.
_DELIVERY_PROPERTIES = frozenset(
    {"delivery_tag", "delivery_info", "body_encoding", "content_type", "content_encoding", "application_headers"}
)


# What `from_json` raises for a mapping that looks like a marked value and is none: {"__type__": "decimal", "__value__": "x"}.
UNREADABLE = (ValueError, ArithmeticError, TypeError, AttributeError, LookupError, RecursionError)


class NoEnvelope(Exception):
    """The letter's message cannot be had: it was not kept, no key opens it, or it cannot be read. The text says which, and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arguments:
    """The decoded body: what the task is called with, and the workflow around it (chain, chord, callbacks, errbacks)."""

    args: list[Any]
    kwargs: dict[str, Any]
    embed: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """Everything a broker needs to deliver a message again: headers, properties and the body, byte for byte."""

    # Not in its repr: that is what ends in logs.
    headers: Mapping[str, Any] = field(repr=False)
    properties: Mapping[str, Any] = field(repr=False)
    body: bytes = field(repr=False)
    content_type: str
    content_encoding: str
    exchange: str
    routing_key: str
    queue: str

    @classmethod
    def of_message(cls, message: Any, queue: str) -> Self:
        """The envelope of a kombu Message that was consumed from `queue`."""
        headers = dict(message.headers) if isinstance(message.headers, dict) else {}
        headers.pop("redelivered", None)
        if not getattr(message, "errors", None):
            headers.pop("compression", None)  # kombu has decompressed the body already
        properties = {
            key: value for key, value in (message.properties or {}).items() if key not in _DELIVERY_PROPERTIES
        }
        delivery = message.delivery_info or {}
        body = message.body
        if isinstance(body, str):
            body = body.encode("utf-8", "surrogatepass")
        return cls(
            headers=headers,
            properties=properties,
            body=bytes(body or b""),
            content_type=str(message.content_type or ""),
            content_encoding=str(message.content_encoding or ""),
            exchange=str(delivery.get("exchange") or ""),
            routing_key=str(delivery.get("routing_key") or ""),
            queue=queue,
        )

    @classmethod
    def of(cls, letter: DeadLetter) -> Self:
        """The envelope as it was stored with `letter`, opened if it is sealed.

        Raises:
            NoEnvelope: it was not kept, or cannot be opened or read.
        """
        if not letter.payload_kept:
            raise NoEnvelope(
                _(
                    "The payload was not kept: there were too many letters of this error already. It cannot be replayed; its sender can send it again."
                )
            )
        headers, properties, body = letter.headers, letter.properties, bytes(letter.body)
        if letter.sealed is not None:
            try:
                head, _line, body = seal.unseal(bytes(letter.sealed), letter.seal_key).partition(b"\n")
            except seal.CannotOpen as problem:
                raise NoEnvelope(str(problem)) from None
            headers, properties = json.loads(head)
        try:
            headers, properties = from_json(headers), from_json(properties)
        except UNREADABLE as problem:
            raise NoEnvelope(_("The message's headers cannot be read: %s. It cannot be replayed.") % problem) from None
        return replace(cls.bare(letter), headers=headers, properties=properties, body=body)

    @classmethod
    def bare(cls, letter: DeadLetter) -> Self:
        """Its address only: what is never sealed."""
        return cls(
            headers={},
            properties={},
            body=b"",
            content_type=letter.content_type,
            content_encoding=letter.content_encoding,
            exchange=letter.exchange,
            routing_key=letter.routing_key,
            queue=letter.queue,
        )

    def columns(self) -> dict[str, Any]:
        """The payload as a letter's row has it: sealed when there is a key."""
        headers, properties = to_json(self.headers), to_json(self.properties)
        if not seal.newest():
            return {"headers": headers, "properties": properties, "body": self.body, "sealed": None, "seal_key": ""}
        sealed, key = seal.seal(f"[{headers},{properties}]\n".encode() + self.body)
        return {**NOTHING, "sealed": sealed, "seal_key": key}

    def arguments(self) -> Arguments | None:
        """The decoded body, or None when it is not the JSON of a task message (protocol 2)."""
        return self.decode(self.body, self.content_type, self.content_encoding)

    @staticmethod
    def decode(body: bytes, content_type: str, content_encoding: str) -> Arguments | None:
        """The same of a body that came without its envelope."""
        try:
            payload = decode_body(body, content_type, content_encoding, accept=prepare_accept_content(["json"]))
        except (ContentDisallowed, DecodeError, KombuError, LookupError, ValueError):
            return None
        match payload:
            case [list() as args, dict() as kwargs, embed] if embed is None or isinstance(embed, dict):
                return Arguments(args=args, kwargs=kwargs, embed=embed or {})
            case _:
                return None

    def for_replay(self, number: int) -> Self:
        """The message that replay `number` sends: equal to the one that died but for what a replay must change. A new copy each time."""
        changed = {
            "retries": 0,
            "eta": self.headers.get(NOT_BEFORE),
            "expires": None,
            REPLAY_HEADER: number,
            COPY_HEADER: str(uuid4()),
        }
        headers = {**self.headers, **changed}
        # RabbitMQ would drop the message once more when its own TTL is over.
        properties = {key: value for key, value in self.properties.items() if key != "expiration"}
        return replace(self, headers=headers, properties=properties)


def replay_number(headers: object) -> int:
    """The replay that a message's headers say it is; 0 for a message that nobody replayed."""
    number = headers.get(REPLAY_HEADER) if isinstance(headers, dict) else None
    return number if isinstance(number, int) and 0 < number < 2**31 else 0


def to_json(value: object) -> str:
    """JSON for a jsonb column; what JSON lacks (dates, bytes, decimals, as AMQP headers may hold) is marked with its type."""
    return dumps(_storable(value))


def _storable(value: Any, depth: int = 0) -> Any:
    """`value` without what PostgreSQL's jsonb refuses although Python's JSON writes it: NUL, unpaired surrogates, NaN, infinity."""
    if isinstance(value, (dict, list, tuple)) and depth > _DEEPEST:
        return _TOO_DEEP
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {clean(key) if isinstance(key, str) else key: _storable(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_storable(item, depth + 1) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def from_json(value: Any) -> Any:
    """The inverse of `to_json`, from the column's decoded value."""
    return loads(json.dumps(value))


def clean(text: str, limit: int | None = None) -> str:
    """`text` as PostgreSQL takes it: NUL and unpaired surrogates become visible escapes."""
    return text.replace("\x00", "\\x00").encode("utf-8", "backslashreplace").decode()[:limit]
