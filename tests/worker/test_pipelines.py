from io import BytesIO
from urllib.parse import urlsplit

import pytest
from celery.result import GroupResult
from PIL import Image

from deadletters.models import DeadLetter
from deadletters.replay.replay import replay
from pipelines import registry, runs, tasks
from pipelines.models import Run
from pipelines.registry import BadParameter
from pipelines.steps import files
from pipelines.steps.errors import NotFound
from tests.processes import eventually
from tests.web import image, status

pytestmark = [pytest.mark.worker, pytest.mark.django_db(transaction=True)]


@pytest.mark.parametrize(("shape", "result"), [("chain", 16), ("pipe", 16), ("group", [4, 8, 16]), ("chord", 28)])
def test_arithmetic(worker, shape, result):
    assert registry.get("arithmetic").build({"shape": shape}).apply_async().get(timeout=60) == result


def test_images_end_to_end(worker, web, tmp_path):
    urls = [
        web.answer(f"/{name}", image(1600, 1200, kind))
        for name, kind in (("a.jpg", "JPEG"), ("b.png", "PNG"), ("c.gif", "GIF"))
    ]
    upload_to = f"file://{tmp_path}/out"
    summary = registry.get("images").build({"urls": urls, "upload_to": upload_to}).apply_async().get(timeout=60)
    names = [urlsplit(address).path.rsplit("/", 1)[1] for address in summary["addresses"]]
    assert [name[:10] for name in names] == ["a-800x600-", "b-800x600-", "c-800x600-"]
    assert [name[-4:] for name in names] == [".jpg", ".png", ".png"]
    assert (summary["images"], summary["bytes"]) == (
        3,
        sum(path.stat().st_size for path in (tmp_path / "out").iterdir()),
    )
    for address in summary["addresses"]:
        assert Image.open(BytesIO(files.read(address))).size == (800, 600)


def test_one_image_is_a_run_too(worker, web):
    url = web.answer("/a.jpg", image())
    assert registry.get("images").build({"urls": [url]}).apply_async().get(timeout=60)["images"] == 1


def test_a_broken_address_leaves_the_others_uploaded(worker, web, tmp_path):
    urls = [web.answer("/a.jpg", image()), web.url("/missing.jpg")]
    sent = registry.get("images").build({"urls": urls, "upload_to": f"file://{tmp_path}/out"}).apply_async()
    good, bad = sent.parent.results if isinstance(sent.parent, GroupResult) else sent.parent
    assert good.get(timeout=60)["source"] == urls[0]
    with pytest.raises(NotFound):
        bad.parent.parent.get(timeout=60)
    assert len(list((tmp_path / "out").iterdir())) == 1


def test_a_broken_address_is_mended_and_the_run_goes_on(worker, web, tmp_path, admin_user):
    urls = [web.answer("/a.jpg", image()), web.answer("/b.jpg", status(404), image())]
    run = runs.start("images", {"urls": urls, "upload_to": f"file://{tmp_path}/out"}, by=admin_user)
    letter = eventually(lambda: DeadLetter.objects.filter(task_id__in=run.steps.values("task_id")).first())
    assert (letter.exception_type.rsplit(".", 1)[-1], letter.retries) == ("NotFound", 0)
    assert "/b.jpg answered 404 Not Found. Put the file there" in letter.exception_message
    replay(letter, by=admin_user)
    eventually(lambda: runs.progress(run).percent == 100)
    assert runs.result(run)["images"] == 2
    assert len(list((tmp_path / "out").iterdir())) == 2


def test_a_schedule_starts_a_pipeline(worker):
    run = Run.objects.get(pk=tasks.run_pipeline.delay("arithmetic", {"shape": "group"}).get(timeout=60))
    assert (run.pipeline, run.origin, run.parameters) == ("arithmetic", Run.Origin.SCHEDULE, {"shape": "group"})


def test_a_schedule_with_wrong_parameters_dies_with_a_sentence(worker):
    with pytest.raises(BadParameter, match="shape: must be one of chain, pipe, group, chord, not 'ring'"):
        tasks.run_pipeline.delay("arithmetic", {"shape": "ring"}).get(timeout=60)
