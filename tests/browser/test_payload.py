"""The masked payload of a letter, and reading it, in a real browser."""

import json

import pytest

from deadletters.models import Event
from deadletters.secrets.redact_text import MASK
from tests.browser.conftest import DESKTOP, PHONE, fits, serious
from tests.deadletters.letters import letter

pytestmark = pytest.mark.django_db(transaction=True)


def sealed_looking_letter(**fields):
    card = {"number": "4111111111111111", "cvc": 123}
    body = [
        ["order-81", 1900],
        {"card": card, "customer": {"name": "Ana", "api_key": "k-7f3a9c"}, "currency": "EUR"},
        {"chain": None},
    ]
    return letter(body=json.dumps(body).encode(), exception_message=f"card={MASK} was refused", **fields)


def test_the_payload_is_masked_until_somebody_asks_for_it(page, examine, opened, login, staff, shoot):  # noqa: PLR0917
    made = sealed_looking_letter()
    address = f"/deadletters/deadletter/{made.pk}/change/"
    examine(address, "letter-masked")
    page.goto(address)
    assert "4111111111111111" not in page.content()
    page.get_by_role("button", name="Show payload").click()
    dialog = page.get_by_role("dialog")
    assert "noted in the trail" in dialog.inner_text()
    dialog.get_by_role("button", name="Cancel").click()
    assert not Event.objects.filter(kind=Event.Kind.READ).exists()
    looks = [("light", DESKTOP), ("dark", PHONE)]
    for scheme, size in looks:
        screen = opened(scheme, size, reduced_motion="reduce")
        login(screen.context, staff)
        screen.goto(address)
        screen.get_by_role("button", name="Show payload").click()
        screen.get_by_role("dialog").get_by_role("button", name="Show payload").click()
        screen.get_by_role("link", name="Hide payload").wait_for()
        assert "4111111111111111" in screen.locator("#payload").inner_text()
        shoot(screen, f"letter-unmasked-{'phone' if size == PHONE else 'desktop'}-{scheme}")
        assert fits(screen)
        assert serious(screen) == []
    assert Event.objects.filter(kind=Event.Kind.READ, actor=staff).count() == len(looks)


def test_what_was_not_kept_is_said(examine, page):
    whole = sealed_looking_letter()
    made = letter(
        fingerprint=whole.fingerprint,
        traceback="",
        traceback_kept=False,
        payload_kept=False,
        body=b"",
        headers={},
        properties={},
    )
    examine(f"/deadletters/deadletter/{made.pk}/change/", "letter-not-kept")
    examine("/deadletters/deadletter/by-error/", "errors-not-kept")
    page.goto(f"/deadletters/deadletter/{made.pk}/change/")
    page.get_by_role("link", name="One with its traceback").click()
    assert page.url.endswith(f"/deadletters/deadletter/{whole.pk}/change/")
