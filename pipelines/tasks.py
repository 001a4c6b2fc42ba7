"""The tasks of the shipped pipelines. Names are stored in rows, so they never change."""

from typing import Any

from celery import shared_task

# Arithmetic that takes longer has gone wrong.
QUICK: dict[str, Any] = {"soft_time_limit": 10, "time_limit": 15}


@shared_task(name="pipelines.add", **QUICK)
def add(x: float, y: float) -> float:
    """`x + y`."""
    return x + y


@shared_task(name="pipelines.multiply", **QUICK)
def multiply(x: float, y: float) -> float:
    """`x × y`."""
    return x * y


@shared_task(name="pipelines.total", **QUICK)
def total(numbers: list[float]) -> float:
    """The sum of `numbers`."""
    return sum(numbers)
