"""Every screen by keyboard alone, and in the other language."""

import pytest

from deadletters import audit
from deadletters.models import Act
from tests.browser.conftest import NARROWEST, fits, serious
from tests.deadletters.letters import crowd

pytestmark = pytest.mark.django_db(transaction=True)

# What a person can do on the page, that is: what is seen and not switched off.
REACHABLE = """[...document.querySelectorAll("a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex='0']")]
    .filter(one => one.checkVisibility({visibilityProperty: true}) && !one.disabled && one.tabIndex >= 0)"""
FOCUSED = """() => {
    const one = document.activeElement, style = getComputedStyle(one), box = one.getBoundingClientRect();
    const place = REACHABLE.indexOf(one);
    const seen = (style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0) || style.boxShadow !== "none";
    return [place, seen && box.bottom > 0 && box.top < innerHeight, one.outerHTML.slice(0, 200)];
}""".replace("REACHABLE", REACHABLE)


@pytest.mark.parametrize("path", ["/", "/deadletters/deadletter/", "/workers/", "/schedules/schedule/add/"])
def test_everything_can_be_reached_by_the_tab_key_and_is_seen_when_it_is(path, page):
    made = crowd(5)
    page.goto(path)
    left = set(range(page.evaluate(f"{REACHABLE}.length")))
    assert len(left) > 15
    for _ in range(len(left) + 5):
        page.keyboard.press("Tab")
        place, seen, what = page.evaluate(FOCUSED)
        if place >= 0:
            assert seen, what
        left.discard(place)
    names = page.evaluate(f"(left) => {REACHABLE}.filter((_, place) => left.includes(place)).map(one => one.outerHTML.slice(0, 200))", list(left))  # fmt: skip
    # Of a group of radio buttons one is a stop, the arrows reach the others.
    assert [name for name in names if 'type="radio"' not in name] == []
    assert made


def test_figures_stand_right_under_each_other(page, staff):
    crowd(5)
    audit.record(Act.Verb.ERROR_NOTED, by=staff)
    places = {"/deadletters/deadletter/": ".field-tries", "/deadletters/deadletter/by-error/": "td.r", "/workers/": "td.r", "/deadletters/act/": ".field-number"}  # fmt: skip
    for path, figures in places.items():
        page.goto(path)
        looks = (
            "all => all.map(one => getComputedStyle(one)).map(one => [one.textAlign, one.fontVariantNumeric].join(' '))"
        )
        found = page.locator(figures).evaluate_all(looks)
        assert found, path
        assert set(found) == {"end tabular-nums"}, path


def test_the_screens_hold_in_japanese(opened, login, staff, shoot):
    made = crowd(8)
    page = opened(locale="ja-JP", reduced_motion="reduce")
    login(page.context, staff)
    letters = "/deadletters/deadletter/"
    screens = {
        "dashboard": "/", "letters": letters, "by-error": f"{letters}by-error/", "letter": f"{letters}{made[0].pk}/change/",
        "error": f"{letters}error/{made[0].fingerprint}/", "redrive-new": "/deadletters/redrive/new/?cause=exception", "runs": "/pipelines/run/",
        "schedule": "/schedules/schedule/add/", "workers": "/workers/", "audit-trail": "/deadletters/act/",
        "help": "/help/", "words": "/help/words/",
    }  # fmt: skip
    for name, path in screens.items():
        page.set_viewport_size({"width": 1440, "height": 900})
        page.goto(path)
        assert page.locator("html").get_attribute("lang") == "ja"
        assert any("\u3040" <= sign <= "\u9fff" for sign in page.locator("h1").inner_text() + page.title()), path
        assert serious(page) == [], path
        shoot(page, f"ja-{name}-desktop-light")
        page.set_viewport_size({"width": NARROWEST, "height": 800})
        assert fits(page), path
        shoot(page, f"ja-{name}-phone-light")
