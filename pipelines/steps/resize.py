"""Fit an image into a frame."""

import re
import warnings
from io import BytesIO

from PIL import ExifTags, Image, ImageOps

from pipelines.steps import files
from pipelines.steps.errors import NotAnImage, TooLarge

# 50 million pixels are 150 MB once decoded, and more than a camera makes; a bomb of a few kilobytes claims billions.
MAX_PIXELS = 50_000_000
LARGEST_SIDE = 10_000
# What is read: what it is written as. A GIF's palette cannot hold the colours in between, so its first frame becomes a PNG.
FORMATS = {"JPEG": "JPEG", "PNG": "PNG", "WEBP": "WEBP", "GIF": "PNG"}
EXTENSIONS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp"}
QUALITY = 85
# Orientations (EXIF) that lie on their side.
LYING = frozenset({5, 6, 7, 8})


def parse_size(text: str) -> tuple[int, int]:
    """`800x600` as (800, 600), in pixels.

    Raises:
        ValueError: it is not two numbers from 1 to 10000.
    """
    match = re.fullmatch(r"\s*([0-9]{1,5})\s*[x×]\s*([0-9]{1,5})\s*", text, re.IGNORECASE)
    if not match or not all(1 <= int(side) <= LARGEST_SIDE for side in match.groups()):
        raise ValueError(f"must be a width and a height of 1 to {LARGEST_SIDE} pixels, like 800x600, not {text!r}")
    return int(match[1]), int(match[2])


def resize(
    file: str, *, to: str, size: str, endpoint_url: str = "", max_pixels: int = MAX_PIXELS
) -> dict[str, str | int]:
    """Store the image `file`, made to fit into `size` and never enlarged, as `to` plus an extension (storage URLs).

    Returns {"file": …, "width": …, "height": …, "bytes": …}. Metadata (where it was taken, by whom) is left behind.

    Raises:
        NotAnImage, TooLarge, FileMissing, Refused: again is of no use.
        StorageAway: again may be.
    """
    frame = parse_size(size)
    content = files.read(file, endpoint_url=endpoint_url)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image, kind = _fitted(content, frame, max_pixels)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as bomb:
        raise TooLarge(f"{file} holds more than {max_pixels:,} pixels.") from bomb
    except (OSError, SyntaxError, ValueError, EOFError) as problem:  # Pillow's decoders raise any of these
        raise NotAnImage(f"{file} is no image that can be read: {problem}.") from problem
    target = f"{to}.{EXTENSIONS[kind]}"
    written = files.save(_encoded(image, kind), target, endpoint_url=endpoint_url)
    return {"file": target, "width": image.width, "height": image.height, "bytes": written}


def _fitted(content: bytes, frame: tuple[int, int], max_pixels: int) -> tuple[Image.Image, str]:
    with Image.open(BytesIO(content), formats=list(FORMATS)) as opened:
        if opened.width * opened.height > max_pixels:  # known from the header, before anything is decoded
            raise Image.DecompressionBombError
        lying = opened.getexif().get(ExifTags.Base.Orientation) in LYING
        image: Image.Image = opened
        if opened.mode == "P":
            image = opened.convert("RGBA" if "transparency" in opened.info else "RGB")
        image.thumbnail(frame[::-1] if lying else frame, reducing_gap=2.0)
        return ImageOps.exif_transpose(image), FORMATS[str(opened.format)]


def _encoded(image: Image.Image, kind: str) -> BytesIO:
    if kind == "JPEG" and image.mode not in {"L", "RGB"}:
        image = image.convert("RGB")
    target = BytesIO()
    image.save(target, kind, quality=QUALITY, optimize=True, icc_profile=image.info.get("icc_profile"), exif=b"")
    return target
