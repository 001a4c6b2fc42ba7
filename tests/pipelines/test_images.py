from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageSequence

from pipelines import registry
from pipelines.registry import BadParameter
from pipelines.steps import errors, files
from pipelines.steps.errors import BadAddress
from pipelines.steps.notify import notify
from pipelines.steps.resize import parse_size, resize
from pipelines.steps.upload import name_for, upload
from pipelines.tasks import resize_image, upload_image
from tests.web import picture


@pytest.fixture
def fit(tmp_path):
    """Resize bytes; the facts and the picture."""

    def fit(content, size="100x100", **options):
        (tmp_path / "in").write_bytes(content)
        facts = resize(f"file://{tmp_path}/in", to=f"file://{tmp_path}/out", size=size, **options)
        return facts, Image.open(BytesIO(files.read(facts["file"])))

    return fit


@pytest.mark.parametrize(("kind", "extension"), [("JPEG", "jpg"), ("PNG", "png"), ("WEBP", "webp"), ("GIF", "png")])
def test_an_image_fits_its_frame_and_keeps_its_shape(fit, tmp_path, kind, extension):
    facts, image = fit(picture(400, 200, kind))
    assert image.size == (100, 50)
    assert facts == {
        "file": f"file://{tmp_path}/out.{extension}", "width": 100, "height": 50, "bytes": (tmp_path / f"out.{extension}").stat().st_size,
    }  # fmt: skip


def test_an_image_is_never_enlarged(fit):
    assert fit(picture(40, 30))[1].size == (40, 30)


def test_a_photo_on_its_side_is_turned_up_and_loses_its_metadata(fit):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by a quarter
    exif[0x9286] = "where I live"
    facts, image = fit(picture(400, 200, exif=exif), "100x300")
    assert image.size == (100, 200)
    assert (facts["width"], facts["height"]) == (100, 200)
    assert not image.getexif()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "I;16", "CMYK"])
def test_every_kind_of_pixel_comes_through(fit, mode):
    target = BytesIO()
    Image.new(mode, (300, 300)).save(target, "JPEG" if mode == "CMYK" else "PNG")
    assert fit(target.getvalue())[1].size == (100, 100)


def test_of_a_film_the_first_frame_is_kept(fit):
    frames = [Image.new("RGB", (50, 50), colour) for colour in ("red", "blue")]
    target = BytesIO()
    frames[0].save(target, "GIF", save_all=True, append_images=frames[1:])
    _, image = fit(target.getvalue())
    assert len(list(ImageSequence.Iterator(image))) == 1
    assert image.convert("RGB").getpixel((5, 5)) == (255, 0, 0)


@pytest.mark.parametrize("content", [b"", b"<html>", picture()[:200], picture(kind="PNG")[:60], b"BM" + b"\0" * 100])
def test_what_is_no_image_dies_for_good(fit, content):
    with pytest.raises(errors.NotAnImage, match="is no image that can be read"):
        fit(content)


@pytest.mark.parametrize("side", [8_000, 10_000, 14_000])
def test_a_bomb_is_not_decoded(fit, side):
    target = BytesIO()
    Image.new("1", (side, side)).save(target, "PNG")  # a few kilobytes
    with pytest.raises(errors.TooLarge, match="more than 50,000,000 pixels"):
        fit(target.getvalue())


def test_a_file_that_is_gone_says_so(tmp_path):
    with pytest.raises(errors.FileMissing, match="Run the step before again"):
        resize(f"file://{tmp_path}/gone", to=f"file://{tmp_path}/out", size="1x1")


@pytest.mark.parametrize(
    "text", ["", "800", "800x", "x600", "0x5", "5x0", "-1x5", "10001x5", "8 00x600", "800x600x3", "８x８", "1e3x5"]
)
def test_sizes_that_make_no_sense(text):
    with pytest.raises(ValueError, match="like 800x600"):
        parse_size(text)


@given(st.integers(1, 10_000), st.integers(1, 10_000), st.sampled_from(["x", "X", " x ", "×"]))
def test_a_size_is_read_as_it_is_written(width, height, between):
    assert parse_size(f"{width}{between}{height}") == (width, height)


def test_an_upload_appears_whole_and_may_be_repeated(tmp_path):
    (tmp_path / "a.jpg").write_bytes(picture())
    for _ in range(2):
        facts = upload(f"file://{tmp_path}/a.jpg", to=f"file://{tmp_path}/new/folder/", name="b.jpg")
        assert facts == {"address": f"file://{tmp_path}/new/folder/b.jpg", "bytes": len(picture())}
    assert [path.name for path in (tmp_path / "new/folder").iterdir()] == ["b.jpg"]


def test_a_write_that_breaks_leaves_what_was_there(tmp_path):
    class Broken(BytesIO):
        def read(self, *_):
            raise OSError("the disk is gone")

    (tmp_path / "b.jpg").write_bytes(b"before")
    with pytest.raises(errors.StorageAway, match="the disk is gone"):
        files.save(Broken(), f"file://{tmp_path}/b.jpg")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("b.jpg", b"before")]


def test_a_folder_where_a_file_is_refuses(tmp_path):
    (tmp_path / "a").write_bytes(b"a file")
    with pytest.raises(errors.Refused, match="The storage refuses"):
        files.save(BytesIO(b"x"), f"file://{tmp_path}/a/b.jpg")


@pytest.mark.parametrize(
    "url",
    [
        "/srv/x",
        "file://x",
        "http://h/",
        "s3://",
        "memory://x",
        "file:///a/../etc",
        "file:///a/b::c",
        "simplecache::file:///x",
        "",
    ],
)
def test_storage_addresses_that_are_not_used(url):
    with pytest.raises(errors.BadAddress, match="must"):
        files.read(url)


def test_a_name_tells_what_it_is_and_is_each_sources_own():
    name = name_for("https://h/pictures/My%20Forest!.JPEG?token=hush", "file:///x/1.jpg", width=8, height=6)
    assert name.startswith("my-forest-8x6-")
    assert name.endswith(".jpg")
    assert "hush" not in name
    assert name_for("https://h/", "s3://b/x.png", width=1, height=2).startswith("image-1x2-")
    assert name_for("https://a/x.jpg", "x.jpg", width=1, height=2) != name_for(
        "https://b/x.jpg", "x.jpg", width=1, height=2
    )


@given(st.text())
def test_a_name_never_leaves_its_folder(path):
    name = name_for(f"https://h/{path}", "file:///x/1.jpg", width=8, height=6)
    assert "/" not in name
    assert not name.startswith(".")
    assert len(name) < 120


def test_the_summary_adds_up():
    assert notify([{"address": "file:///a", "bytes": 2}, {"address": "file:///b", "bytes": 3}]) == {
        "images": 2, "bytes": 5, "addresses": ["file:///a", "file:///b"],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"urls": []}, "urls: needs at least one address"),
        ({"urls": ["http://a/"] * 1001}, "urls: takes at most 1000 addresses, not 1001"),
        (
            {"urls": ["http://a/", "ftp://b/"]},
            "urls: must be a web address like https://example.com/image.jpg, not 'ftp://b/'",
        ),
        ({"urls": ["http://a/"], "size": "big"}, "size: must be a width and a height of 1 to 10000 pixels"),
        ({"urls": ["http://a/"], "upload_to": "/tmp"}, "upload_to: must begin with file:// or s3://"),
    ],
)
def test_images_refuses_what_cannot_work(parameters, says):
    with pytest.raises(BadParameter, match=f"^{says}"):
        registry.get("images").build(parameters)


def test_images_is_a_chord_of_chains(settings):
    canvas = registry.get("images").build({"urls": ["http://a/", "http://b/"]})
    assert [[task.task for task in part.tasks] for part in canvas.tasks] == [
        ["pipelines.fetch_image", "pipelines.resize_image", "pipelines.upload_image"]
    ] * 2
    assert canvas.body.task == "pipelines.notify"
    assert canvas.tasks[0].tasks[2].args == (settings.UPLOAD_URL,)


def test_the_form_begins_with_the_samples(settings):
    settings.SITE_URL = "http://here:1"
    assert registry.get("images").example() == {
        "urls": [f"http://here:1/samples/{name}.jpg" for name in ("harbour", "forest", "mountain")],
        "size": "800x600",
        "upload_to": "",
    }
    settings.SAMPLES = False
    assert "urls" not in registry.get("images").example()


def test_a_step_neither_reads_nor_writes_outside_of_its_folders(settings, tmp_path):
    settings.UPLOAD_ALLOW = []
    secret = tmp_path / "environment.json"
    secret.write_text("{}")
    facts = {"source": "http://a/x.jpg", "file": f"file://{secret}", "width": 1, "height": 1}
    with pytest.raises(BadAddress, match="made, in STORAGE_URL"):
        upload_image(facts, settings.UPLOAD_URL)
    with pytest.raises(BadAddress, match="made, in STORAGE_URL"):
        resize_image(facts, "8x6")
    stored = {**facts, "file": f"{settings.STORAGE_URL}/task-x.jpg"}
    for elsewhere in (f"file://{tmp_path}", f"{settings.UPLOAD_URL}-not", "s3://somebody/"):
        with pytest.raises(BadAddress, match="UPLOAD_ALLOW"):
            upload_image(stored, elsewhere)
