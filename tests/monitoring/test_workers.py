"""Who answers, whatever it answers."""

import threading
from contextlib import contextmanager

from celery import current_app

from monitoring import workers
from tests.processes import eventually


@contextmanager
def answers(name, **handlers):
    """Something on the broker that takes part in Celery's remote control as `name`."""
    over = threading.Event()

    def serve(broker):
        with mailbox.listen():
            while not over.is_set():
                try:
                    broker.drain_events(timeout=0.2)
                except TimeoutError:
                    continue

    with current_app.connection_for_write() as broker:
        mailbox = current_app.control.mailbox.Node(name, channel=broker.default_channel, handlers=handlers)
        thread = threading.Thread(target=serve, args=(broker,))
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def fails(_state, **_arguments):
    raise LookupError("not here")


def test_a_worker_that_cannot_tell_what_it_does_is_alive():
    with answers("odd@host", ping=lambda _state, **_: {"ok": "pong"}, active=fails, active_queues=fails, stats=fails):
        # Redis tells nobody of a question that was asked before he listened.
        (odd,) = eventually(lambda: [member for member in workers.members() if member.name == "odd@host"])
    assert (odd.queues, odd.running, odd.slots, odd.finished) == ((), (), None, None)
