"""The task that fails, for our own workers."""

from celery import shared_task


@shared_task(name="benchmarks.fail")
def fail(number: int) -> None:
    """Die of what it was given."""
    raise ValueError(f"no luck with {number}")
