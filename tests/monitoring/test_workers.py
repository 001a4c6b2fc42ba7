"""Who answers, whatever it answers."""

import re
import threading
from contextlib import contextmanager

import pytest
from celery import current_app

from monitoring import workers
from monitoring.models import PausedQueue
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


@pytest.mark.django_db
def test_each_button_of_the_screen_has_a_name_of_its_own(admin_client):
    """A poll gives the focus back to the button that had it: to another queue's it must not go."""
    for name in ("本番", "検証", "a b", "a-b"):
        PausedQueue.objects.create(name=name, by="ana")
    ids = re.findall(r'<button[^>]* id="(resume-[^"]+)"', admin_client.get("/workers/").text)
    assert len(ids) == len(set(ids)) == 4
