from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from django.urls import reverse
from PIL import Image

from pipelines import samples
from tests.processes import manage


@pytest.fixture(autouse=True)
def folder(settings, tmp_path):
    settings.SAMPLES_DIR = tmp_path / "samples"
    return settings.SAMPLES_DIR


@pytest.fixture
def get(client):
    """(status, type, bytes) of a path; the file is closed again."""

    def get(path):
        with closing(client.get(path)) as answer:
            return answer.status_code, answer.get("Content-Type"), answer.getvalue()

    return get


def test_two_samples_are_there_and_the_third_is_missing_until_it_is_made(get):
    answers = [get(f"/samples/{name}")[:2] for name in (*samples.READY, samples.BROKEN)]
    assert answers == [(200, "image/jpeg"), (200, "image/jpeg"), (404, "text/html; charset=utf-8")]
    samples.make(samples.BROKEN)
    assert get("/samples/mountain.jpg")[0] == 200


def test_what_a_person_does_in_the_folder_is_left_alone(get, folder):
    get("/samples/forest.jpg")
    (folder / "forest.jpg").unlink()
    assert get("/samples/forest.jpg")[0] == 404
    (folder / "mine.png").write_bytes(b"mine")
    assert get("/samples/mine.png") == (200, "image/png", b"mine")


def test_a_site_without_samples_has_none(client, settings):
    settings.SAMPLES = False
    assert client.get("/samples/forest.jpg").status_code == 404


def test_samples_are_only_read(client):
    assert client.post("/samples/forest.jpg").status_code == 405


@pytest.mark.parametrize(
    "name", ["..", ".", "%2e%2e%2fsecret", "..%2fsecret", "%2fetc%2fpasswd", "..%5csecret", "a%00b", "../secret"]
)
def test_nothing_outside_the_folder_is_served(get, folder, name):
    samples.prepare()
    (folder.parent / "secret").write_text("hush")
    status, _, content = get(f"/samples/{name}")
    assert status in {302, 400, 404}  # the console asks whoever goes elsewhere to log in
    assert b"hush" not in content


def test_the_scenes_are_the_same_each_time_and_of_different_shapes():
    scenes = [samples.draw(name) for name in samples.SCENES]
    assert {scene.width > scene.height for scene in scenes} == {True, False}
    assert samples.draw("forest.jpg").tobytes() == scenes[1].tobytes()


def test_addresses_are_those_of_this_site():
    path = samples.urls("https://ops.example.com/")[2].removeprefix("https://ops.example.com")
    assert path == reverse("sample", args=["mountain.jpg"])


def test_make_sample_refuses_other_names():
    done = manage("make_sample", "moon.jpg")
    assert (done.returncode, done.stdout) == (2, "")
    assert "There is no sample “moon.jpg”; there are: harbour.jpg" in done.stderr


def test_a_sample_is_an_image(folder):
    with Image.open(samples.make("mountain.jpg")) as image:
        assert image.size == (2000, 900)


def test_requests_at_once_all_find_the_ready_samples(folder):
    with ThreadPoolExecutor(4) as pool:
        listings = list(pool.map(lambda _: {path.name for path in samples.prepare().iterdir()}, range(4)))
    assert listings == [set(samples.READY)] * 4
    assert [path.name for path in folder.parent.iterdir()] == ["samples"]
