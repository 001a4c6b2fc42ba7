"""The tasks of this room; each calls one verb. Their names are stored in schedules and messages, so they never change."""

from dataclasses import asdict

from celery import shared_task

from deadletters.redrive import tend
from deadletters.replay import sweep as sweeping


@shared_task(name="deadletters.sweep", soft_time_limit=240, time_limit=300)
def sweep() -> dict[str, int]:
    """Settle letters that a crash left between claimed, sent and settled; returns how many of each kind."""
    return asdict(sweeping.sweep())


@shared_task(name="deadletters.drive_redrive", soft_time_limit=60, time_limit=90, ignore_result=True)
def drive_redrive(redrive_id: int, token: str) -> None:
    """Send a redrive's letters for a while."""
    tend.drive_on(redrive_id, token)


@shared_task(name="deadletters.tend_redrives", soft_time_limit=60, time_limit=90)
def tend_redrives() -> dict[str, int]:
    """Count the outcomes of redrives, and take over those whose driver has died."""
    return tend.tend()
