"""The base of every task: its death is captured, and a replay's number goes with what replaces it."""

from typing import Any

from celery.contrib.django.task import DjangoTask


class DeadLetterTask(DjangoTask[..., Any]):
    """Set by `task_cls="deadletters.task:DeadLetterTask"` on the app."""

    abstract = True
    # A dotted string: the web process never imports worker code.
    Request = "deadletters.request:DeadLetterRequest"

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
