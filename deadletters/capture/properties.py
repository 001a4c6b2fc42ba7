"""AMQP properties that cannot be read: the message becomes a letter. py-amqp raises in its frame reader, which ends one worker after another.

Any client may send them, for RabbitMQ does not look: a short string that is not UTF-8, a time after the year 9999, lists in lists in lists.
"""

import struct
from typing import Any

from amqp import serialization
from amqp.exceptions import FrameSyntaxError
from amqp.spec import Basic

# The only header of such a message: all of its properties, in hexadecimal.
UNREADABLE = "unreadable_properties"

_read = serialization.PROPERTY_CLASSES[Basic.CLASS_ID]


def connect() -> None:
    """Have py-amqp read properties with this module."""
    serialization.PROPERTY_CLASSES[Basic.CLASS_ID] = _readable  # type: ignore[assignment]  # its stub says that it holds classes


def _readable(buffer: Any, offset: int) -> tuple[dict[str, Any], int]:
    try:
        properties: tuple[dict[str, Any], int] = _read(buffer, offset)
    except (ValueError, OverflowError, OSError, LookupError, RecursionError, struct.error, FrameSyntaxError):
        return {"application_headers": {UNREADABLE: bytes(buffer[offset:]).hex()}}, len(buffer)
    return properties
