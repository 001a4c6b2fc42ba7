"""The task that does nothing, for our own workers."""

from celery import shared_task


@shared_task(name="benchmarks.noop")
def noop(number: int) -> int:
    """Return what it was given."""
    return number
