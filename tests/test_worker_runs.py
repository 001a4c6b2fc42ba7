import pytest

from tests.tasks import echo

pytestmark = [pytest.mark.worker, pytest.mark.django_db(transaction=True)]


def test_a_result_reaches_postgresql(worker):
    assert echo.delay({"a": 1}).get(timeout=30) == {"a": 1}
