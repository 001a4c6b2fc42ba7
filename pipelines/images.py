"""Fetch, resize and upload any number of images side by side, then sum up."""

from typing import Annotated

from celery import chain, chord
from celery.canvas import Signature
from django.conf import settings
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from pipelines import samples
from pipelines.registry import BadParameter, pipeline
from pipelines.steps import addresses
from pipelines.steps.resize import parse_size
from pipelines.storage import complaint_of_upload
from pipelines.tasks import fetch_image, notify_done, resize_image, upload_image

# Each is three tasks; the summary at the end holds all their addresses.
MAX_URLS = 1000

Urls = Annotated[list[str], gettext_lazy("Addresses of JPEG, PNG, WebP or GIF images: one a line, or comma-separated")]
Size = Annotated[str, gettext_lazy("Frame to fit into, width x height in pixels; images are never enlarged")]
UploadTo = Annotated[str, gettext_lazy("Folder to upload to, file:///… or s3://bucket/…; blank: UPLOAD_URL")]


def _samples() -> dict[str, list[str]]:
    return {"urls": samples.urls(settings.SITE_URL)} if settings.SAMPLES else {}


@pipeline(name="images", suggest=_samples)
def images(urls: Urls, size: Size = "800x600", upload_to: UploadTo = "") -> Signature:
    """Fetch, resize and upload images side by side, then sum up."""
    folder = upload_to or settings.UPLOAD_URL
    _check(urls, size, folder)
    each = [chain(fetch_image.s(url), resize_image.s(size), upload_image.s(folder)) for url in urls]
    return chord(each, notify_done.s())


def _check(urls: list[str], size: str, folder: str) -> None:
    if not urls:
        raise BadParameter("urls", _("needs at least one address"))
    if len(urls) > MAX_URLS:
        raise BadParameter(
            "urls", _("takes at most %(most)d addresses, not %(count)d") % {"most": MAX_URLS, "count": len(urls)}
        )
    for url in urls:
        if wrong := addresses.complaint(url):
            raise BadParameter("urls", wrong)
    if wrong := complaint_of_upload(folder):
        raise BadParameter("upload_to", wrong)
    try:
        parse_size(size)
    except ValueError as problem:
        raise BadParameter("size", str(problem)) from problem
