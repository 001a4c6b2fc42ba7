"""Files by URL (`file://`, `s3://`): read whole, or written so that nobody ever sees half of one."""

import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import IO, Any

import fsspec
from fsspec.core import url_to_fs

from pipelines.steps.errors import BadAddress, FileMissing, Refused, StorageAway

try:
    from botocore.exceptions import BotoCoreError
except ImportError:  # the s3 extra is not installed, so nothing raises it

    class BotoCoreError(Exception):  # type: ignore[no-redef]
        """What S3's client raises besides OSError."""


SCHEMES = ("file", "s3")


def complaint(url: str) -> str:
    """What is wrong with a storage address; "" when it can be used."""
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in SCHEMES:
        return f"must begin with file:// or s3://, not {url!r}"
    if scheme == "file" and not rest.startswith("/"):
        return f"must name a folder from the root on, like file:///srv/images, not {url!r}"
    if scheme == "s3" and not rest.strip("/"):
        return f"must name a bucket, like s3://bucket/images/, not {url!r}"
    # Behind “::” fsspec reads no further, and all files of a run would be one.
    if "::" in rest or ".." in rest.split("/"):
        return f"must neither lead upwards with “..” nor hold “::”: {url!r}"
    try:
        fsspec.get_filesystem_class(scheme)
    except ImportError:
        return f"needs the s3 extra: pip install 'redeliver[s3]' ({url!r})"
    return ""


def is_below(url: str, folders: Iterable[str]) -> bool:
    """Whether a storage address is one of these folders or lies in one; `file:///` and `s3://` hold all of their kind."""
    return any(f"{url.rstrip('/')}/".startswith(f"{folder.rstrip('/')}/") for folder in folders)


def read(url: str, *, endpoint_url: str = "") -> bytes:
    """All bytes of the file at `url`.

    Raises:
        FileMissing, Refused, BadAddress: it cannot be read.
        StorageAway: it cannot be read now.
    """
    system, path = _locate(url, endpoint_url)
    with _told(url):
        content: bytes = system.cat_file(path)
        return content


def save(source: IO[bytes], url: str, *, endpoint_url: str = "") -> int:
    """Copy `source` from its start to `url`, whole or not at all; a file that is there is replaced. The number of bytes.

    Raises:
        Refused, BadAddress: it cannot be written.
        StorageAway: it cannot be written now.
    """
    system, path = _locate(url, endpoint_url)
    source.seek(0)
    with _told(url):
        if url.startswith("file://"):
            _save_locally(source, system, path)
        else:  # an object appears when its upload is complete
            with system.open(path, "wb") as target:
                shutil.copyfileobj(source, target)
    return source.tell()


def written_before(folder: str, before: datetime, *, endpoint_url: str = "") -> list[str]:
    """Storage URLs of the files in `folder` that were last written before then (an aware time); [] when there is no such folder.

    Raises:
        Refused, BadAddress, StorageAway: it cannot be listed.
    """
    system, path = _locate(folder, endpoint_url)
    with _told(folder):
        system.invalidate_cache()  # of a listing that this process made long ago
        entries = system.find(path, maxdepth=1, detail=True)
    return [
        f"{folder.rstrip('/')}/{name.rsplit('/', 1)[-1]}" for name, entry in entries.items() if _written(entry) < before
    ]


def delete(url: str, *, endpoint_url: str = "") -> None:
    """Delete the file at `url`.

    Raises:
        FileMissing, Refused, BadAddress, StorageAway: it cannot be deleted.
    """
    system, path = _locate(url, endpoint_url)
    with _told(url):
        system.rm_file(path)


def _written(entry: dict[str, Any]) -> datetime:
    # s3fs says it as a time, the local file system as seconds.
    written = entry.get("LastModified") or datetime.fromtimestamp(entry["mtime"], UTC)
    assert isinstance(written, datetime)
    return written


def _save_locally(source: IO[bytes], system: Any, path: str) -> None:
    system.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH120  (a path of fsspec's)
    # Two deliveries of one message may write at the same time: each has a name of its own until it is done.
    temporary = f"{path}.{secrets.token_hex(4)}.part"
    try:
        with system.open(temporary, "wb") as target:
            shutil.copyfileobj(source, target)
            target.flush()
            os.fsync(target.fileno())
        system.mv(temporary, path)
    except BaseException:
        if system.exists(temporary):
            system.rm_file(temporary)
        raise


def _locate(url: str, endpoint_url: str) -> tuple[Any, str]:
    if wrong := complaint(url):
        raise BadAddress(f"The storage address {wrong}.")
    options = {"endpoint_url": endpoint_url} if endpoint_url and url.startswith("s3://") else {}
    system, path = url_to_fs(url, **options)
    return system, path


@contextmanager
def _told(url: str) -> Iterator[None]:
    """Storage errors as ours."""
    try:
        yield
    except FileNotFoundError as problem:
        raise FileMissing(f"There is no {url}, nor a place to put it. Run the step before again.") from problem
    except (PermissionError, NotADirectoryError, IsADirectoryError, FileExistsError) as problem:
        raise Refused(
            f"The storage refuses {url}: {_text(problem)}. Check the address and the rights there."
        ) from problem
    except (OSError, BotoCoreError) as problem:
        raise StorageAway(f"The storage of {url} does not answer as it should: {_text(problem)}.") from problem


def _text(problem: BaseException) -> str:
    return (getattr(problem, "strerror", None) or str(problem) or type(problem).__name__).rstrip(".")
