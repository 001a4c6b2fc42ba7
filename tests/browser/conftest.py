"""A real Chromium in front of the real site. `examine` is what every screen has to pass."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.conf import settings
from django.contrib.auth import get_user_model
from django.test import Client
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

# Playwright's synchronous API runs an event loop in this thread, and Django would refuse every query beside it.
os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip
DESKTOP, PHONE = (1440, 900), (390, 844)
# Pixels; nothing may scroll sideways between the narrowest phone and the widest screen.
NARROWEST, WIDEST = 360, 2560


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(
            "there is no Chromium here: install the package chromium"
        )
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def shoot() -> Callable[..., None]:
    """`shoot(page, "name")` writes a picture into the folder that REDELIVER_SCREENS names; without that nothing, for it takes time."""
    folder = os.environ.get("REDELIVER_SCREENS")

    def write(page: Page, name: str, *, full_page: bool = True) -> None:
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            page.screenshot(path=Path(folder) / f"{name}.png", full_page=full_page)

    return write


@pytest.fixture
def staff(transactional_db):
    """Somebody who may do everything."""
    return get_user_model().objects.create_superuser("ana", "ana@example.com", "password")


@pytest.fixture
def login(live_server) -> Callable[[BrowserContext, object], None]:
    """`login(page.context, user)`: gives the browser that person's session."""

    def sign_in(context: BrowserContext, user) -> None:
        client = Client()
        client.force_login(user)
        name = settings.SESSION_COOKIE_NAME
        context.add_cookies([{"name": name, "value": client.cookies[name].value, "url": live_server.url}])

    return sign_in


@pytest.fixture
def opened(browser: Browser, live_server) -> Iterator[Callable[..., Page]]:
    """`opened(scheme="dark", size=PHONE)`: a fresh page of nobody; any complaint of the browser fails the test at its end."""
    contexts: list[BrowserContext] = []
    complaints: list[str] = []

    def open_page(scheme: str = "light", size: tuple[int, int] = DESKTOP, **options) -> Page:
        phone = size == PHONE
        context = browser.new_context(
            base_url=live_server.url, color_scheme=scheme, viewport={"width": size[0], "height": size[1]},
            has_touch=phone, is_mobile=phone, device_scale_factor=2 if phone else 1, **options,
        )  # fmt: skip
        contexts.append(context)
        page = context.new_page()
        # A violation of the Content-Security-Policy is an error on the console, too.
        page.on("console", lambda said: complaints.append(f"{page.url}: {said.text}") if said.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(f"{page.url}: {error}"))
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture
def page(opened, login, staff) -> Page:
    """A desktop browser in which `staff` is signed in."""
    fresh = opened()
    login(fresh.context, staff)
    return fresh


@pytest.fixture
def examine(opened, login, staff, shoot) -> Callable[..., None]:
    """`examine("/path/", "name")`: light and dark, from a phone to a wide screen: no complaint, no sideways scroll, nothing serious for axe.

    One page, loaded once: colours and width change under it, as they do under a person's hands.
    """

    def look(path: str, name: str, *, user=staff) -> None:
        screen = opened(reduced_motion="reduce")  # else axe measures colours that are on their way from light to dark
        if user is not None:
            login(screen.context, user)
        answer = screen.goto(path)
        assert answer is not None
        assert answer.status == 200, f"{path}: {answer.status}"
        for scheme in ("light", "dark"):
            screen.emulate_media(color_scheme=scheme)
            assert serious(screen) == [], f"{path} {scheme}"
            for kind, size in (("desktop", DESKTOP), ("phone", PHONE)):
                screen.set_viewport_size({"width": size[0], "height": size[1]})
                shoot(screen, f"{name}-{kind}-{scheme}")
            screen.set_viewport_size({"width": DESKTOP[0], "height": DESKTOP[1]})
        for width in (NARROWEST, PHONE[0], 700, 1000, WIDEST):
            screen.set_viewport_size({"width": width, "height": 900})
            assert fits(screen), f"{path} scrolls sideways at {width} px"
        screen.context.close()

    return look


def fits(page: Page) -> bool:
    """Whether the page is no wider than the window."""
    return page.evaluate("document.documentElement.scrollWidth === document.documentElement.clientWidth")


def serious(page: Page) -> list[str]:
    """What axe-core finds that keeps people out."""
    # Only what is wrong: what is right is a megabyte a page.
    found = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    return [
        f"{violation['id']}: {node['target']} {node['failureSummary']}"
        for violation in found
        if violation["impact"] in {"serious", "critical"}
        for node in violation["nodes"]
    ]
