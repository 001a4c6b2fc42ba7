"""Tasks that exist for one test, and what Django's checks say of them."""

import pytest
from celery import current_app


def nothing():
    pass


@pytest.fixture
def registered():
    """Register a task for this test: `registered(base=Mine, time_limit=5)`."""
    names = []

    def register(**options):
        names.append(f"tests.checked{len(names)}")
        return current_app.task(nothing, name=names[-1], **options)

    yield register
    for name in names:
        current_app.tasks.unregister(name)


def ids(messages):
    return [(message.id, message.obj) for message in messages]
