"""The tasks of this room; each calls one verb. Their names are stored in schedules and messages, so they never change."""

from dataclasses import asdict

from celery import shared_task

from deadletters import sweep as sweeping


@shared_task(name="deadletters.sweep", soft_time_limit=240, time_limit=300)
def sweep() -> dict[str, int]:
    """Settle letters that a crash left between claimed, sent and settled; returns how many of each kind."""
    return asdict(sweeping.sweep())
