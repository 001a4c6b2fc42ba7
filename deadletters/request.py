"""The worker's Request: what each way of dying looks like in the main process."""

from celery.worker.request import Request


class DeadLetterRequest(Request):  # type: ignore[misc]  # celery.worker ships no types
    """A request that captures its death."""
