"""Sample images for trying `images` without the internet. The third is missing until somebody makes it."""

import math
import secrets
import shutil
from pathlib import Path

from django.conf import settings
from django.utils.translation import gettext as _
from PIL import Image, ImageDraw

Colour = tuple[int, int, int]

# name: (width, height, sky above, sky below, hills from far to near)
SCENES: dict[str, tuple[int, int, Colour, Colour, list[Colour]]] = {
    "harbour.jpg": (1600, 1000, (255, 183, 120), (255, 236, 200), [(96, 125, 139), (55, 90, 110), (24, 55, 77)]),
    "forest.jpg": (900, 1400, (190, 226, 240), (240, 250, 245), [(120, 160, 120), (70, 120, 80), (30, 75, 50)]),
    "mountain.jpg": (2000, 900, (80, 110, 180), (235, 200, 210), [(150, 140, 180), (105, 95, 145), (55, 50, 90)]),
}
# There from the start; mountain.jpg is the address that is broken until a person mends it.
READY = ("harbour.jpg", "forest.jpg")
BROKEN = "mountain.jpg"


class NoSuchSample(LookupError):
    """There is no recipe for a sample of that name."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    def __str__(self) -> str:
        return _("There is no sample “%(name)s”; there are: %(known)s.") % {
            "name": self.name,
            "known": ", ".join(SCENES),
        }


def urls(site_url: str) -> list[str]:
    """Three addresses of samples on this site; the third answers 404 until `manage.py make_sample mountain.jpg`."""
    return [f"{site_url.rstrip('/')}/samples/{name}" for name in (*READY, BROKEN)]


def prepare() -> Path:
    """The samples' folder; made with the ready ones in it when there is none. What people do in it is left alone."""
    folder = Path(settings.SAMPLES_DIR)
    if not folder.exists():
        # Made aside and renamed: of three requests at once none may find the folder without its images.
        aside = folder.with_name(f"{folder.name}.{secrets.token_hex(4)}")
        for name in READY:
            _write(aside, name)
        try:
            aside.rename(folder)
        except OSError:  # another request was faster
            shutil.rmtree(aside)
    return folder


def make(name: str) -> Path:
    """Draw a sample into the folder (again, when it is there).

    Raises:
        NoSuchSample: there is no recipe for it.
    """
    if name not in SCENES:
        raise NoSuchSample(name)
    return _write(prepare(), name)


def _write(folder: Path, name: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    # Several web processes may draw it at the same time; a reader sees the whole image or none.
    temporary = folder / f".{name}.{secrets.token_hex(4)}"
    draw(name).save(temporary, "JPEG", quality=88)
    return temporary.rename(folder / name)


def draw(name: str) -> Image.Image:
    """The scene of that name: a sky, a sun, hills. The same pixels each time."""
    width, height, above, below, hills = SCENES[name]
    # One pixel wide, then stretched: a gradient costs nothing.
    sky = Image.new("RGB", (1, 256))
    for y in range(256):
        sky.putpixel((0, y), _between(above, below, y / 255))
    image = sky.resize((width, height), Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(image)
    radius = min(width, height) // 9
    pen.circle((width * 0.7, height * 0.3), radius, fill=(255, 244, 214))
    for number, colour in enumerate(hills):
        pen.polygon([(0, height), *_ridge(width, height, number), (width, height)], fill=colour)
    return image


def _ridge(width: int, height: int, number: int) -> list[tuple[float, float]]:
    base, swing = height * (0.55 + 0.14 * number), height * (0.11 - 0.025 * number)
    return [
        (
            x,
            base
            - swing * (math.sin(x / width * (5 + 3 * number) + number * 2) + 0.4 * math.sin(x / width * 17 + number)),
        )
        for x in range(0, width + 10, 10)
    ]


def _between(first: Colour, second: Colour, share: float) -> Colour:
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue
