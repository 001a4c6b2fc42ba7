"""The story of the README, told by commands alone: start, one image dies, look, mend, replay, all three arrive."""

import json

import pytest

from tests.platform import a_platform
from tests.processes import eventually

pytestmark = [pytest.mark.worker, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def platform():
    with a_platform() as platform:
        platform.start()
        yield platform
        platform.stop()


def test_three_images_one_broken_mended_and_replayed(platform):
    def said(*arguments, code=0):
        done = platform.manage(*arguments)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    assert {"images", "arithmetic"} <= {pipeline["name"] for pipeline in json.loads(said("list_pipelines", "--json"))}
    urls = ",".join(f"{platform.url}/samples/{name}.jpg" for name in ("harbour", "forest", "mountain"))
    said("run_pipeline", "images", "--param", f"urls={urls}", "--wait", "--timeout", "120", code=1)

    letters = json.loads(said("list_dead_letters", "--json"))
    assert len(letters) == 1, letters
    (letter,) = letters
    assert letter["task"] == "pipelines.fetch_image"
    assert letter["retries"] == 0  # 404 is no passing trouble
    shown = json.loads(said("show_dead_letter", str(letter["id"]), "--json"))
    assert shown["args"] == [f"{platform.url}/samples/mountain.jpg"]
    assert shown["sets_free"] == ["pipelines.resize_image", "pipelines.upload_image", "pipelines.notify"]
    assert "Traceback" in shown["traceback"]

    said("make_sample", "mountain.jpg")
    said("replay_dead_letters", str(letter["id"]), "--reason", "the file is there now")
    eventually(
        lambda: json.loads(said("list_dead_letters", "--state", "resolved", "--json")), what="the letter resolved"
    )

    code = "from pipelines import runs; from pipelines.models import Run; import json; print(json.dumps(runs.result(Run.objects.get(pipeline='images'))))"
    summary = eventually(
        lambda: json.loads(said("shell", "--no-imports", "-c", code).splitlines()[-1]), what="notify's result"
    )
    assert summary["images"] == 3
    assert len(list((platform.var / "uploads").glob("*"))) == 3
    assert json.loads(said("list_dead_letters", "--json")) == []


def test_arithmetic_prints_its_results(platform):
    for shape, value in {"chain": 16, "pipe": 16, "group": [4, 8, 16], "chord": 28}.items():
        done = platform.manage("run_pipeline", "arithmetic", "--param", f"shape={shape}", "--wait", "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["result"] == value
