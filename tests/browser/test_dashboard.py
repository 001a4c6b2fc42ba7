"""The front page: empty, and with something to say."""

import pytest

from tests.deadletters.letters import crowd

pytestmark = pytest.mark.django_db(transaction=True)


def test_an_empty_dashboard_says_what_to_do_first(page):
    page.goto("/")
    assert page.get_by_role("link", name="Start a pipeline").is_visible()


def test_the_dashboard_is_fit_to_look_at(examine):
    crowd(12)
    examine("/", "dashboard")


def test_a_server_that_says_nothing_for_long_is_said_so(page):
    page.clock.install()
    page.goto("/")
    # A request that nobody answers, as when a cable is cut.
    page.route("**/*", lambda route: None if "x-fragment" in route.request.headers else route.continue_())
    with page.expect_request("**/*"):
        page.clock.fast_forward(12_000)
    page.clock.fast_forward(21_000)
    page.get_by_text("No answer from the server, trying again…").wait_for()
