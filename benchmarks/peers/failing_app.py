"""Celery without us, and a task that fails. PEER_RESULTS as in celery_app.py; PEER_LETTERS=1: the `task_failure` handler of a tutorial."""

import os

from benchmarks.peers.celery_app import app

if os.environ.get("PEER_LETTERS"):
    from celery.signals import task_failure
    from django_celery_results.models import TaskResult

    app.conf.update(result_backend=None, task_ignore_result=True)

    # A table of a tutorial's shape: what the handler knows, written through the ORM. django-celery-results' own model has these columns.
    @task_failure.connect
    def keep(task_id, exception, args, kwargs, einfo, sender=None, **_):  # noqa: PLR0917
        """Write a row for the failed task."""
        TaskResult.objects.create(
            task_id=task_id,
            task_name=sender.name,
            task_args=repr(args),
            task_kwargs=repr(kwargs),
            status="FAILURE",
            content_type="application/json",
            content_encoding="utf-8",
            result=repr(exception),
            traceback=str(einfo),
        )


@app.task(name="benchmarks.fail")
def fail(number: int) -> None:
    """Die of what it was given."""
    raise ValueError(f"no luck with {number}")
