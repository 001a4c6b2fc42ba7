import uuid

import pytest
from django.core.cache import cache
from django.utils import timezone

from deadletters.models import Cause, DeadLetter
from monitoring.workers import pings
from tests.deadletters.letters import with_error


@pytest.fixture(autouse=True)
def nothing_remembered():
    cache.clear()
    pings.forget()


@pytest.fixture
def letter(db):
    """Makes open letters: letter(fingerprint="…", …)."""

    def make(**fields):
        made = DeadLetter.objects.create(
            **{
                "task_id": str(uuid.uuid4()),
                "task_name": "shop.charge",
                "cause": Cause.EXCEPTION,
                "exception_type": "ValueError",
                "exception_message": "no such card",
                "fingerprint": "f" * 32,
                "died_at": timezone.now(),
                **fields,
            }
        )
        return with_error(made)

    return make
