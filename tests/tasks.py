"""Tasks that only the tests' workers know. Each dies in its own way."""

import json
import time
from pathlib import Path

from celery import shared_task


@shared_task(name="tests.echo")
def echo(value):
    return value


@shared_task(name="tests.sleep")
def sleep(seconds):
    time.sleep(seconds)
    return seconds


@shared_task(name="tests.note", bind=True)
def note(self, *received, label, log):
    """Writes down its id, its label and what it was given; returns its label."""
    with Path(log).open("a") as lines:
        lines.write(json.dumps([self.request.id, label, list(received)]) + "\n")
    return label
