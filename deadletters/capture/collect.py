"""What RabbitMQ itself gave up: messages that it dead-lettered (time-to-live, delivery limit, a full queue) become letters, too.

They arrive in the queue DEADLETTERS_BROKER_QUEUE, which every worker consumes; a policy of the broker sends them there.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from celery import signals
from django.conf import settings

from deadletters.capture.record import Death
from deadletters.envelope import Envelope
from deadletters.models import NO_TASK_ID, Cause, new_death_id

_CAUSES = {"expired": Cause.EXPIRED, "delivery_limit": Cause.POISON}
_WORDS = {
    "expired": "it waited in its queue longer than the broker's time-to-live allows",
    "delivery_limit": "it was delivered more often than the queue allows",
    "maxlen": "its queue was full",
    "rejected": "a consumer rejected it",
}


def is_given_up(message: Any) -> bool:
    """Whether the broker sent this message here because it gave it up."""
    queue = settings.DEADLETTERS_BROKER_QUEUE
    return bool(queue and message.delivery_info.get("routing_key") == queue and _last(message.headers))


def death(message: Any, worker: str) -> Death | None:
    """The death that RabbitMQ tells of in `x-death`; None for bytes without a task id that were rejected: who rejected them kept them."""
    headers, given_up = message.headers, _last(message.headers)
    reason, queue = str(given_up.get("reason") or ""), str(given_up.get("queue") or "")
    task_id, death_id = headers.get("id"), new_death_id()
    if not isinstance(task_id, str) or not task_id:
        if reason == "rejected":
            return None
        task_id = f"{NO_TASK_ID}{death_id}"
    keys = given_up.get("routing-keys") or [queue]
    envelope = replace(
        Envelope.of_message(message, queue),
        headers={
            name: value
            for name, value in headers.items()
            if not name.startswith(("x-death", "x-first-death", "x-last-death"))
        },
        exchange=str(given_up.get("exchange") or ""),
        routing_key=str(keys[0]),
    )
    return Death(
        task_id=task_id,
        task_name=str(headers.get("task") or ""),
        cause=_CAUSES.get(reason, Cause.REJECTED),
        envelope=envelope,
        exception_message=f"RabbitMQ gave it up: {_WORDS.get(reason, reason)}",
        worker=worker,
        death_id=death_id,
    )


def connect() -> None:
    """Have each worker consume the queue."""
    signals.celeryd_after_setup.connect(_consume, dispatch_uid="deadletters.collect")


def _consume(instance: Any, **_: Any) -> None:
    if settings.DEADLETTERS_BROKER_QUEUE:
        instance.app.amqp.queues.select_add(settings.DEADLETTERS_BROKER_QUEUE)


def _last(headers: object) -> Mapping[str, Any]:
    """The newest entry of `x-death`."""
    deaths = headers.get("x-death") if isinstance(headers, dict) else None
    return deaths[0] if isinstance(deaths, list) and deaths and isinstance(deaths[0], dict) else {}
