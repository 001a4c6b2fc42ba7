"""Put a finished image where it is wanted."""

import re
from hashlib import sha256
from io import BytesIO
from posixpath import basename, splitext
from urllib.parse import unquote, urlsplit

from pipelines.steps import files


def upload(file: str, *, to: str, name: str, endpoint_url: str = "") -> dict[str, str | int]:
    """Copy `file` to `name` in the folder `to` (storage URLs). {"address": …, "bytes": …}.

    It appears there whole or not at all, and again under the same name when it is uploaded again.

    Raises:
        BadAddress, FileMissing, Refused: again is of no use.
        StorageAway: again may be.
    """
    address = f"{to.rstrip('/')}/{name}"
    content = files.read(file, endpoint_url=endpoint_url)
    return {"address": address, "bytes": files.save(BytesIO(content), address, endpoint_url=endpoint_url)}


def name_for(source: str, file: str, *, width: int, height: int) -> str:
    """`forest-800x533-1a2b3c4d.jpg`: told by people, and its own for each source address and size.

    The same image at the same size has the same name, so that a retry, a replay or the next run replaces it.
    """
    stem = splitext(basename(unquote(urlsplit(source).path)))[0]
    readable = re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-")[:60] or "image"
    digest = sha256(source.encode()).hexdigest()[:8]
    return f"{readable}-{width}x{height}-{digest}{splitext(file)[1]}"
