"""Many messages in one MULTI, as kombu's Redis transport would have written them one by one."""

import json
import uuid
from base64 import b64encode
from collections.abc import Sequence
from typing import Any

from deadletters.replay.publish import Ready

_text = json.dumps


class Pipeline:
    """One channel of kombu's Redis transport; it is asked for names, keys and the client."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel

    def send(self, messages: Sequence[Ready]) -> None:
        """All or none: a MULTI is atomic."""
        keys: dict[str, list[str]] = {}
        key_of: dict[tuple[str, int | None], str] = {}
        for message in messages:
            target = message.queue, message.priority
            if target not in key_of:
                key_of[target] = self._channel._q_for_pri(message.queue, self._priority(message.priority))
            keys.setdefault(key_of[target], []).append(_payload(message))
        with self._channel.conn_or_acquire() as client, client.pipeline(transaction=True) as pipe:
            for key, payloads in keys.items():
                pipe.lpush(key, *payloads)  # leaves them in the order in which single LPUSHes would
            pipe.execute()

    def _priority(self, priority: int | None) -> int:
        found: int = self._channel._get_message_priority({"properties": {"priority": priority}}, reverse=False)
        return found


def _payload(message: Ready) -> str:
    """The JSON that kombu reads: the stored headers and properties are JSON already, and go in as they are."""
    queue = _text(message.queue)
    delivery = f'"delivery_info": {{"exchange": "", "routing_key": {queue}}}'
    own = f'{delivery}, "delivery_tag": "{uuid.uuid4()}", "body_encoding": "base64"'
    properties = f"{message.properties[:-1]}, {own}}}" if len(message.properties) > 2 else f"{{{own}}}"
    return (
        f'{{"body": "{b64encode(message.body).decode()}", "content-encoding": {_text(message.content_encoding)}, '
        f'"content-type": {_text(message.content_type)}, "headers": {message.headers}, "properties": {properties}}}'
    )
