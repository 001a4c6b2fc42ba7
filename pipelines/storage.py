"""The files that tasks hand to each other: how they are named, and when they go."""

from contextlib import suppress
from datetime import timedelta
from urllib.parse import quote, unquote

from django.conf import settings
from django.utils import timezone
from django_celery_results.models import TaskResult

from deadletters.models import DeadLetter, State
from pipelines.models import Step
from pipelines.steps import files
from pipelines.steps.errors import BadAddress, FileMissing

PREFIX = "task-"
# Ids that one query asks for.
BATCH = 1_000


def file_of(task_id: str) -> str:
    """The storage URL for what a task makes; the step may add an extension.

    Named by the task's id, which retries and replays keep: the next try replaces the file of the one before. A name made of the
    content would have to wait for all of it, and nobody would know which files a task left behind.
    """
    # The dot divides the id from the extension.
    return f"{settings.STORAGE_URL.rstrip('/')}/{PREFIX}{quote(task_id, safe='').replace('.', '%2E')}"


def made_by_a_step(url: str) -> str:
    """`url`, a file of the storage. A task's arguments are anybody's who may edit a schedule, and its worker can read its own secrets.

    Raises:
        BadAddress: it is elsewhere.
    """
    if not files.is_below(url, [settings.STORAGE_URL]):
        raise BadAddress(f"A step reads what a step before it made, in STORAGE_URL, and not {url}.")
    return url


def complaint_of_upload(folder: str) -> str:
    """Why nothing is uploaded to this folder; "" when it is."""
    if wrong := files.complaint(folder):
        return wrong
    if files.is_below(folder, [settings.UPLOAD_URL, *settings.UPLOAD_ALLOW]):
        return ""
    return f"must lie in UPLOAD_URL or in a folder that UPLOAD_ALLOW names, and {folder!r} does not"


def task_of(url: str) -> str | None:
    """The id of the task that made a file; None for a file that is not ours."""
    name = url.rsplit("/", 1)[-1]
    return unquote(name.removeprefix(PREFIX).split(".", 1)[0]) if name.startswith(PREFIX) else None


def prune_files(older_than: timedelta, *, dry_run: bool = False) -> int:
    """Delete files written more than `older_than` ago by tasks whose results are gone; returns how many.

    Results that a waiting letter or its run needs are spared (see prune.py), so the files that a replay would read are, too.

    Raises:
        StepError: the storage does not answer, or refuses.
    """
    before = timezone.now() - older_than
    found = files.written_before(settings.STORAGE_URL, before, endpoint_url=settings.S3_ENDPOINT_URL)
    ours = {url: task_id for url in found if (task_id := task_of(url)) is not None}
    needed = _needed(list(ours.values()))
    doomed = [url for url, task_id in ours.items() if task_id not in needed]
    if not dry_run:
        for url in doomed:
            with suppress(FileMissing):  # somebody else is cleaning up too
                files.delete(url, endpoint_url=settings.S3_ENDPOINT_URL)
    return len(doomed)


def _needed(task_ids: list[str]) -> set[str]:
    """Those whose result is kept, or (where results are in Redis) whose run has a letter that waits."""
    waiting = DeadLetter.objects.filter(state__in=(State.OPEN, State.REPLAYING)).values("task_id")
    stuck = Step.objects.filter(task_id__in=waiting).values("run")
    needed: set[str] = set()
    for first in range(0, len(task_ids), BATCH):
        part = task_ids[first : first + BATCH]
        needed.update(TaskResult.objects.filter(task_id__in=part).values_list("task_id", flat=True))
        needed.update(Step.objects.filter(task_id__in=part, run__in=stuck).values_list("task_id", flat=True))
    return needed
