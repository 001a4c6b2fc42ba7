from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from pipelines import tasks
from pipelines.steps.errors import NotAnImage, NotFound, RateLimited, ServerFailed, TooLarge
from tests.web import body, image, status

pytestmark = [pytest.mark.worker, pytest.mark.django_db(transaction=True)]


def run(url):
    return tasks.fetch_image.delay(url).get(timeout=60)


def test_a_server_that_fails_twice_is_asked_three_times(worker, web):
    url = web.answer("/a.jpg", status(500), status(503), image())
    assert run(url)["source"] == url
    assert web.calls["/a.jpg"] == 3


def test_a_server_that_always_fails_is_asked_four_times(worker, web):
    with pytest.raises(ServerFailed, match="answered 500"):
        run(web.answer("/a.jpg", status(500)))
    assert web.calls["/a.jpg"] == 4


@pytest.mark.parametrize(
    ("answer", "error"),
    [(status(404), NotFound), (body(b"", "text/html"), NotAnImage), (body(b"", length=10**9), TooLarge)],
)
def test_what_will_not_change_is_asked_once(worker, web, answer, error):
    with pytest.raises(error):
        run(web.answer("/a.jpg", answer))
    assert web.calls["/a.jpg"] == 1


def test_a_rate_limit_is_waited_out(worker, web):
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=1), usegmt=True)
    url = web.answer("/a.jpg", status(429, Retry_After="1"), status(429, Retry_After=soon), status(429), image())
    assert run(url)["source"] == url
    assert web.calls["/a.jpg"] == 4


def test_a_rate_limit_is_waited_out_five_times(worker, web):
    with pytest.raises(RateLimited, match="429 Too Many Requests"):
        run(web.answer("/a.jpg", status(429, Retry_After="0")))
    assert web.calls["/a.jpg"] == 6


def test_a_rate_limit_does_not_make_the_process_more_patient_with_failures(worker, web):
    """Celery keeps the `max_retries` of an explicit retry on the task, for the next message too."""
    for number in range(4):  # both processes of the worker
        run(web.answer(f"/limited{number}", status(429, Retry_After="0"), image()))
    for number in range(2):
        with pytest.raises(ServerFailed):
            run(web.answer(f"/failing{number}", status(500)))
        assert web.calls[f"/failing{number}"] == 4


def test_a_server_that_says_nothing_of_the_wait_gets_a_minute(settings):
    settings.RETRY_BACKOFF_MAX = 600
    assert tasks._wait(RateLimited("Wait.")) == 60
    assert tasks._wait(RateLimited("Wait.", 7.0)) == 7
    assert tasks._wait(RateLimited("Wait.", 86_400.0)) == 600


def test_the_policy_is_the_documented_one():
    for task in (tasks.fetch_image, tasks.resize_image, tasks.upload_image):
        assert task.retry_backoff is True
        assert task.retry_jitter is True
        assert task.retry_kwargs == {"max_retries": 3}
        assert 0 < task.soft_time_limit < task.time_limit
