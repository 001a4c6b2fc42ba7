"""The base of every task: of several copies one begins, its death is captured, a replay's number goes with what replaces it."""

import logging
import os
import time
from typing import Any

from celery import states
from celery.contrib.django.task import DjangoTask

logger = logging.getLogger(__name__)


class DeadLetterTask(DjangoTask[..., Any]):
    """Set by `task_cls="deadletters.capture.task:DeadLetterTask"` on the app."""

    abstract = True
    # A dotted string: the web process never imports worker code.
    Request = "deadletters.capture.request:DeadLetterRequest"
    # How often a message may be begun that ends its worker or its process each time; None: DEADLETTERS_MAX_DELIVERIES.
    # 1, for a task that must not run twice: at the first redelivery it becomes a letter.
    max_deliveries: int | None = None

    # Celery would write it before it asks whether this message may run at all; see `before_start`.
    track_started = False

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:  # noqa: ARG002  (Celery's signature)
        """In the process that runs the task, before it runs. A class that overrides this calls `super()`.

        A STARTED row is written only where somebody looks at it: a third of a small task's cost.
        """
        request: Any = self.request
        if request.is_eager:
            return
        if request.headers and "message_copy" in request.headers:
            from deadletters.capture.copies import refuse_second_copy  # noqa: PLC0415  (tasks are made before models)

            refuse_second_copy(task_id, request.headers)
        from deadletters.capture.poison import begin  # noqa: PLC0415  (the same)

        begin(self)
        request.begun_at = time.time()
        if self._is_followed(request) and not (self.ignore_result or request.ignore_result):
            about = {"pid": os.getpid(), "hostname": request.hostname}
            try:
                self.backend.store_result(task_id, about, states.STARTED, request=request)
            except Exception:
                # It only informs: a task need not wait, let alone die, for it.
                logger.exception("result.start_not_stored", extra={"task_id": task_id})

    def _is_followed(self, request: Any) -> bool:
        """Whether somebody looks at what runs: it is part of a workflow or a run, or its message is gone once it has begun."""
        return bool(
            request.group
            or request.chain
            or request.parent_id
            or request.chord
            or not self.acks_late
            or (request.headers and "run" in request.headers)
            or self.app.conf.task_track_started
        )

    def on_replace(self, sig: Any) -> Any:
        """`self.replace()` in a replay: the replacement that keeps this task's id keeps the replay's number, too."""
        from deadletters.envelope import REPLAY_HEADER, replay_number  # noqa: PLC0415  (tasks are made before models)

        if number := replay_number(self.request.headers):
            for task in _with_id(sig, self.request.id):
                task.set(headers={**(task.options.get("headers") or {}), REPLAY_HEADER: number})
        return super().on_replace(sig)


def _with_id(signature: Any, task_id: str | None) -> list[Any]:
    """The tasks below a signature that run under `task_id`."""
    inner = [*getattr(signature, "tasks", ()), *filter(None, [getattr(signature, "body", None)])]
    if not inner:
        return [signature] if signature.options.get("task_id") == task_id else []
    return [task for part in inner for task in _with_id(part, task_id)]
