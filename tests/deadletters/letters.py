"""Dead letters as rows, for the screens: nothing died for them."""

import json
import random
import uuid
from datetime import timedelta

from django.utils import timezone

from deadletters.models import Cause, DeadLetter, ErrorGroup, Event, State

TRACEBACK = """Traceback (most recent call last):
  File "/srv/app/.venv/lib/python3.12/site-packages/httpcore/_sync/connection_pool.py", line 256, in handle_request
    raise exc from None
httpcore.ReadTimeout: timed out

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "/srv/app/.venv/lib/python3.12/site-packages/celery/app/trace.py", line 453, in trace_task
    R = retval = fun(*args, **kwargs)
                 ^^^^^^^^^^^^^^^^^^^^
  File "/srv/app/shop/tasks.py", line 118, in price_partition
    rates = client.rates_for(day, currencies=["EUR", "<b>JPY</b>"])
            ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  File "/srv/app/shop/rates.py", line 64, in rates_for
    response = self.http.get(f"/v2/rates/{day.isoformat()}", timeout=10)
               ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  File "/srv/app/.venv/lib/python3.12/site-packages/httpx/_client.py", line 1053, in get
    return self.request("GET", url, params=params, timeout=timeout)
httpx.ReadTimeout: timed out after 10.0 s waiting for rates.example.com
"""

ERRORS = [
    ("shop.price_partition", "ReadTimeout", "timed out after 10.0 s waiting for rates.example.com", Cause.EXCEPTION, "prices"),
    ("shop.merge_partitions", "OperationalError", 'connection to server at "db-2" failed: Connection refused', Cause.RETRIES_EXHAUSTED, "prices"),
    ("crm.pull_accounts", "HTTPStatusError", "Client error '429 Too Many Requests' for url 'https://crm.example.com/v3/accounts'", Cause.RETRIES_EXHAUSTED, "default"),
    ("pipelines.fetch_image", "FetchError", "https://cdn.example.com/2026/11/23/original-7f3a.tiff: 404 Not Found", Cause.EXCEPTION, "images"),
    ("pipelines.resize_image", "MemoryError", "Unable to allocate 3.20 GiB for an image of 41,000 × 28,000 pixels", Cause.MEMORY_ERROR, "images"),
    ("mail.send_summary", "SMTPServerDisconnected", "Connection unexpectedly closed", Cause.RETRIES_EXHAUSTED, "mail"),
    ("reports.publish", "TimeLimitExceeded", "TimeLimitExceeded(300,)", Cause.HARD_TIME_LIMIT, "default"),
    ("reports.render_pdf", "WorkerLostError", "Worker exited prematurely: signal 9 (SIGKILL)", Cause.WORKER_LOST, "default"),
    ("billing.issue_invoice", "", "Received a message for a task that no worker here knows", Cause.UNKNOWN_TASK, "default"),
]  # fmt: skip


def letter(number: int = 0, **fields) -> DeadLetter:
    """One dead letter, a minute older for each `number`, with its first event."""
    task_name, exception_type, message, cause, queue = ERRORS[number % len(ERRORS)]
    task_id = str(uuid.uuid4())
    died_at = timezone.now() - timedelta(minutes=number, seconds=5)
    known = {
        "task_id": task_id,
        "task_name": task_name,
        "cause": cause,
        "fingerprint": f"{number % len(ERRORS):032x}",
        "exception_type": exception_type,
        "exception_message": message,
        "traceback": TRACEBACK if cause == Cause.EXCEPTION else "",
        "worker": "prices-6@node1",
        "retries": 3 if cause == Cause.RETRIES_EXHAUSTED else 0,
        "received_at": died_at - timedelta(seconds=12),
        "started_at": died_at - timedelta(seconds=11),
        "died_at": died_at,
        "headers": {"task": task_name, "id": task_id, "retries": 0, "root_id": task_id, "lang": "py"},
        "properties": {"delivery_mode": 2, "correlation_id": task_id},
        "body": json.dumps([[236263], {"day": "2026-10-17", "region": "APAC"}, {}]).encode(),
        "content_type": "application/json",
        "content_encoding": "utf-8",
        "routing_key": queue,
        "queue": queue,
        "root_id": task_id,
        **fields,
    }
    made = DeadLetter.objects.create(**known)
    with_error(made)
    Event.objects.create(
        dead_letter=made, kind=Event.Kind.DIED, at=made.died_at, text=f"{exception_type}: {message}".strip(": ")
    )
    return made


def with_error(made: DeadLetter) -> DeadLetter:
    """The row of its error, as its capture would have written it."""
    ErrorGroup.objects.get_or_create(
        fingerprint=made.fingerprint,
        defaults={
            "task_name": made.task_name, "exception_type": made.exception_type, "message": made.exception_message[:300],
            "cause": made.cause, "first_seen": made.died_at, "last_seen": made.died_at,
        },
    )  # fmt: skip
    return made


def crowd(size: int = 120) -> list[DeadLetter]:
    """Letters of every error and state, most of them open."""
    chance = random.Random(7)
    states = [State.OPEN] * 6 + [State.REPLAYING, State.RESOLVED, State.RESOLVED, State.DISCARDED]
    made = []
    for _number in range(size):
        which = min(int(chance.expovariate(0.45)), len(ERRORS) - 1)
        died_at = timezone.now() - timedelta(minutes=chance.expovariate(1 / 400))
        made.append(letter(which, state=chance.choice(states), died_at=died_at))
    return made
