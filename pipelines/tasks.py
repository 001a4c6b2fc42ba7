"""The tasks of the shipped pipelines. Names are stored in rows, so they never change."""

from typing import Any

from celery import Task, current_app, shared_task
from django.conf import settings

from pipelines import chords, runs
from pipelines.models import Run
from pipelines.steps.errors import BadAddress, RateLimited, Transient
from pipelines.steps.fetch import fetch
from pipelines.steps.notify import notify
from pipelines.steps.resize import resize
from pipelines.steps.upload import name_for, upload
from pipelines.storage import complaint_of_upload, file_of, made_by_a_step

# Arithmetic and summaries that take longer have gone wrong.
QUICK: dict[str, Any] = {"soft_time_limit": 10, "time_limit": 15}
# Waits 1, 2, 4 … seconds, each multiplied by a random share so that a crowd does not come back at once.
# `max_retries` is for an explicit `retry()` (429); `retry_kwargs` is for what failed by itself. Passing the number to `retry()` instead
# would stay behind on the task and raise the other limit too, for as long as the process lives.
PATIENT: dict[str, Any] = {
    "autoretry_for": (Transient,),
    "retry_kwargs": {"max_retries": 3},
    "retry_backoff": True,
    "retry_backoff_max": settings.RETRY_BACKOFF_MAX,
    "retry_jitter": True,
    "max_retries": 5,
}
# Seconds to wait for a server that says 429 and not how long.
RATE_LIMIT_WAIT = 60.0
# What a step hands to the next: addresses and sizes, never bytes.
Facts = dict[str, Any]


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


@shared_task(name="pipelines.fetch_image", bind=True, soft_time_limit=60, time_limit=75, **PATIENT)
def fetch_image(self: "Task[Any, Any]", url: str) -> Facts:
    """Fetch the image at `url` into the storage."""
    try:
        return fetch(
            url,
            to=file_of(str(self.request.id)),
            max_bytes=settings.FETCH_MAX_BYTES,
            allow_private=settings.FETCH_ALLOW_PRIVATE,
            endpoint_url=settings.S3_ENDPOINT_URL,
        )
    except RateLimited as limit:
        raise self.retry(exc=limit, countdown=_wait(limit)) from limit


@shared_task(name="pipelines.resize_image", bind=True, soft_time_limit=60, time_limit=75, **PATIENT)
def resize_image(self: "Task[Any, Any]", fetched: Facts, size: str) -> Facts:
    """Fit what was fetched into `size`, like 800x600."""
    file, to = made_by_a_step(fetched["file"]), file_of(str(self.request.id))
    made = resize(file, to=to, size=size, endpoint_url=settings.S3_ENDPOINT_URL)
    return {"source": fetched["source"], **made}


@shared_task(name="pipelines.upload_image", soft_time_limit=120, time_limit=150, **PATIENT)
def upload_image(resized: Facts, folder: str) -> Facts:
    """Upload what was resized into `folder` (a storage URL)."""
    if wrong := complaint_of_upload(folder):
        raise BadAddress(f"The folder to upload to {wrong}.")
    size = {side: resized[side] for side in ("width", "height")}
    name = name_for(resized["source"], resized["file"], **size)
    sent = upload(made_by_a_step(resized["file"]), to=folder, name=name, endpoint_url=settings.S3_ENDPOINT_URL)
    return {"source": resized["source"], **size, **sent}


@shared_task(name="pipelines.notify", **QUICK)
def notify_done(uploads: list[Facts]) -> Facts:
    """Sum up all uploads of a run."""
    return notify(uploads)


@shared_task(name="pipelines.run_pipeline", bind=True, soft_time_limit=60, time_limit=75)
def run_pipeline(self: "Task[Any, Any]", name: str, parameters: Facts | None = None) -> str:
    """Start a pipeline, from a schedule; a message that is delivered twice starts it once. The run's id."""
    asked = str(self.request.id)
    return str(runs.start_once(name, parameters or {}, message=asked, origin=Run.Origin.SCHEDULE).pk)


@shared_task(name="pipelines.sweep_chords", soft_time_limit=60, time_limit=75)
def sweep_chords() -> int:
    """Settle chords and runs that a crash left behind; how many moved on."""
    return chords.sweep(current_app.backend) + runs.sweep()


def _wait(limit: RateLimited) -> float:
    wait = RATE_LIMIT_WAIT if limit.retry_after is None else limit.retry_after
    return min(wait, settings.RETRY_BACKOFF_MAX)
