"""Say that a batch of images is done."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

logger = logging.getLogger(__name__)


def notify(uploads: Sequence[Mapping[str, Any]]) -> dict[str, int | list[str]]:
    """Log and return the sum of all uploads ({"address": …, "bytes": …} each): {"images", "bytes", "addresses"}."""
    summary = {"images": len(uploads), "bytes": sum(int(each["bytes"]) for each in uploads)}
    logger.info("images.done", extra=summary)
    return {**summary, "addresses": [str(each["address"]) for each in uploads]}
