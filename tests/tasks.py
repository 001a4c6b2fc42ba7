"""Tasks that only the tests' workers know. Each dies in its own way."""

import time

from celery import shared_task


@shared_task(name="tests.echo")
def echo(value):
    return value


@shared_task(name="tests.sleep")
def sleep(seconds):
    time.sleep(seconds)
    return seconds
