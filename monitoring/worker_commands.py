"""Remote commands of our workers, beside Celery's own; imported in workers only."""

from typing import Any

from celery.worker.control import control_command


@control_command(args=[("queue", str)], signature="<queue>")  # type: ignore[untyped-decorator]  # celery.worker ships no types
def take_queue(state: Any, queue: str, **_: Any) -> dict[str, str]:
    """Take from a queue again that was let go: now, and after every new connection to the broker (Celery's add_consumer forgets that)."""
    queues = state.app.amqp.queues
    queues.select_add(queues[queue])
    state.consumer.call_soon(state.consumer.add_task_queue, queue)
    return {"ok": f"takes from {queue}"}
