"""A death, and the row that it is stored as: its texts masked, its payload sealed if there is a key. Asks no database."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from kombu.utils.json import dumps, loads

from deadletters.capture import keep
from deadletters.envelope import Arguments, Envelope, clean, replay_number, to_json
from deadletters.fingerprint import fingerprint
from deadletters.models import Cause, State, new_death_id
from deadletters.secrets.redact import redactor
from deadletters.secrets.redact_text import hide

# A traceback beyond this is a recursion; its ends say all.
_TRACEBACK_LIMIT = 65_536
_MESSAGE_LIMIT = 10_000
# Arguments of more bytes are not looked through for the secrets that an error may repeat.
_BODY_LIMIT = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Death:
    """A message that will not be tried again, as the worker saw it. Times are aware datetimes."""

    task_id: str
    task_name: str
    cause: Cause
    envelope: Envelope
    exception_type: str = ""
    # Not masked yet, so neither is in its repr.
    exception_message: str = field(default="", repr=False)
    traceback: str = field(default="", repr=False)
    worker: str = ""
    received_at: datetime | None = None
    started_at: datetime | None = None
    died_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    # The idempotency key of this death.
    death_id: UUID = field(default_factory=new_death_id)

    @property
    def replay_number(self) -> int:
        """Which replay died; 0: the original message."""
        return replay_number(self.envelope.headers)


def described(exception: BaseException, kind: type[BaseException] | None = None) -> tuple[str, str]:
    """(type, message) of an exception; of `kind` when the object is a stand-in for one that could not travel between processes."""
    try:
        message = str(exception)
    except Exception as problem:  # noqa: BLE001  (a broken __str__ must not cost the letter)
        message = f"(its text cannot be had: {type(problem).__name__} in __str__)"
    return (kind or type(exception)).__name__, message


@dataclass(frozen=True, slots=True)
class Record:
    """A death as it is stored: the row of its letter, and what the first line of its trail says."""

    row: dict[str, Any]
    text: str
    death_id: UUID

    @classmethod
    def of(cls, death: Death) -> "Record":
        """What is stored of `death`."""
        row = _columns(death)
        if not death.replay_number:  # a replay's death is a letter that has its payload already
            row = keep.limited(row)
        text = f"{row['exception_type']}: {row['exception_message']}".strip(": ")[:500]
        return cls(row, text or str(death.cause.label), death.death_id)

    @classmethod
    def from_line(cls, line: bytes) -> "Record":
        """The record of a line of the spool.

        Raises:
            ValueError: the line is torn, or no record.
        """
        try:
            return cls(**loads(line))
        except (TypeError, ValueError) as problem:
            raise ValueError(f"no letter: {problem}") from problem

    def to_line(self) -> bytes:
        """One line of JSON; bytes, times and ids come back as they were."""
        return dumps({"row": self.row, "text": self.text, "death_id": self.death_id}).encode()


def _columns(death: Death) -> dict[str, Any]:
    """The row of a new letter, column by column: its texts masked, its payload sealed if there is a key. Asks no database."""
    envelope, headers = death.envelope, death.envelope.headers
    arguments = envelope.arguments() if len(envelope.body) <= _BODY_LIMIT else None
    message, traceback = _texts(death, arguments)
    kwargs, embed = (arguments.kwargs, arguments.embed) if arguments else ({}, None)
    rules = redactor().rules_of(death.task_name, kwargs, embed)
    row: dict[str, Any] = {
        "task_id": clean(death.task_id, 255),
        "task_name": clean(death.task_name, 255),
        "state": State.OPEN.value,
        "cause": death.cause.value,
        "exception_type": clean(death.exception_type, 255),
        "exception_message": message,
        "traceback": traceback,
        "worker": clean(death.worker, 255),
        "retries": _natural(headers.get("retries")),
        "received_at": death.received_at,
        "started_at": death.started_at,
        "died_at": death.died_at,
        "deaths": 1,
        "replay_number": death.replay_number,
        "content_type": clean(envelope.content_type, 128),
        "content_encoding": clean(envelope.content_encoding, 64),
        "exchange": clean(envelope.exchange, 255),
        "routing_key": clean(envelope.routing_key, 255),
        "queue": clean(envelope.queue, 255),
        "priority": _natural(envelope.properties.get("priority"), missing=None),
        "root_id": _text(headers.get("root_id")),
        "parent_id": _text(headers.get("parent_id")),
        "group_id": _text(headers.get("group")),
        "traceback_kept": True,
        "payload_kept": True,
        "secret_arguments": to_json(rules),
        **envelope.columns(),
    }
    row["fingerprint"] = fingerprint(
        task_name=row["task_name"],
        cause=row["cause"],
        exception_type=row["exception_type"],
        message=message,
        traceback=traceback,
    )
    return row


def _texts(death: Death, arguments: Arguments | None) -> tuple[str, str]:
    """(message, traceback) as people may see them: stored like that, they are safe in every list, search and alert."""
    mask, secrets = redactor(), set[str]()
    if arguments:
        mask.arguments(death.task_name, arguments.args, arguments.kwargs, secrets)
    # Masked before it is cut to its length, or half a secret could be left at the end; cut once before that, for it may be megabytes.
    message = hide(mask.text(clean(death.exception_message, 2 * _MESSAGE_LIMIT)), secrets)[:_MESSAGE_LIMIT]
    return message, hide(mask.text(_shortened(clean(death.traceback))), secrets)


def _shortened(traceback: str) -> str:
    """Its beginning and its end, whole lines of both."""
    if len(traceback) <= _TRACEBACK_LIMIT:
        return traceback
    half = _TRACEBACK_LIMIT // 2
    begins = traceback[:half].rpartition("\n")[0] or traceback[:half]
    ends = traceback[-half:].partition("\n")[2] or traceback[-half:]
    return f"{begins}\n… {len(traceback) - len(begins) - len(ends)} characters left out …\n{ends}"


def _natural(value: object, missing: int | None = 0) -> int | None:
    return value if isinstance(value, int) and 0 <= value < 2**15 else missing


def _text(value: object) -> str:
    return clean(value, 255) if isinstance(value, str) else ""
