"""Names of tasks and errors in narrow columns: broken between their parts, and copied as they are."""

import pytest
from django.utils import timezone
from django_celery_results.models import TaskResult

from deadletters.console.names import breakable
from pipelines.models import Run
from tests.browser.conftest import NARROWEST
from tests.deadletters.letters import letter

pytestmark = pytest.mark.django_db(transaction=True)

TASK, ERROR = "warehouse.fetch_partitioned_inventory_snapshots", "InventorySnapshotTemporarilyUnavailable"
# Parts of names that stand on more than one line.
BROKEN = """() => [...document.querySelectorAll("wbr")].flatMap(seam => [seam.previousSibling, seam.nextSibling])
    .filter(part => part?.nodeType === Node.TEXT_NODE && !/\\s/.test(part.textContent.trim())).filter(part => {
        const range = document.createRange();
        range.selectNodeContents(part);
        return new Set([...range.getClientRects()].map(box => Math.round(box.top))).size > 1;
    }).map(part => part.textContent)"""
LINES = (
    "() => [...document.querySelectorAll('wbr')].filter(seam => seam.nextSibling?.nodeType === Node.TEXT_NODE).length"
)
COPIED = "one => { getSelection().selectAllChildren(one); return getSelection().toString(); }"


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("pipelines.fetch_image", ["pipelines.", "fetch_", "image"]),
        ("HTTPStatusError", ["HTTP", "Status", "Error"]),
        ("celery@host-2", ["celery@", "host-", "2"]),
        ("each ran 2.5 s on average", ["each ran 2.5 s on average"]),
        ("<b>.c", ["&lt;b&gt;.", "c"]),
    ],
)
def test_a_name_may_be_broken_between_its_parts(name, parts):
    assert breakable(name).split("<wbr>") == parts


@pytest.fixture
def screens(page):
    """Where a long name stands: {what: address}."""
    dead = letter(task_name=TASK, exception_type=ERROR)
    result = TaskResult.objects.create(
        task_id=dead.task_id, task_name=TASK, status="FAILURE", date_started=timezone.now()
    )
    step = {"kind": "task", "task": TASK, "label": TASK, "task_id": dead.task_id}
    run = Run.objects.create(pipeline="stock", tree=step, result_id=dead.task_id)
    letters, results = "/deadletters/deadletter/", "/django_celery_results/taskresult/"
    return {
        "dashboard": "/", "by error": f"{letters}by-error/", "letters": letters, "letter": f"{letters}{dead.pk}/change/",
        "error": f"{letters}error/{dead.fingerprint}/", "results": results, "result": f"{results}{result.pk}/change/",
        "run": f"/pipelines/run/{run.pk}/change/", "timeline": f"/pipelines/run/{run.pk}/change/?view=timeline",
    }  # fmt: skip


def test_no_name_is_broken_within_a_word(page, screens):
    for what, path in screens.items():
        page.goto(path)
        assert page.evaluate(LINES), what
        for width in (NARROWEST, 900, 1280):
            page.set_viewport_size({"width": width, "height": 900})
            assert page.evaluate(BROKEN) == [], f"{what} at {width} px"


def test_what_is_cut_off_stays_on_its_line(page, screens):
    page.set_viewport_size({"width": NARROWEST, "height": 900})
    page.goto(screens["letters"])
    cut = page.locator("#result_list .o-cut")
    assert cut.evaluate_all(
        "all => all.map(one => one.clientHeight < 2 * parseFloat(getComputedStyle(one).fontSize))"
    ) == [True]


def test_a_copied_name_is_the_name(page, screens):
    page.goto("/")
    assert page.locator(".o-tile .s", has_text=TASK).evaluate(COPIED) == TASK
    assert page.locator(".o-errors .o-name", has_text=ERROR).evaluate(COPIED) == ERROR
