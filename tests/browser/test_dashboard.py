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
