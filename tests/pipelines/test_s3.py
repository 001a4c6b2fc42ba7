import os
import socket
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from io import BytesIO

import pytest

from config.embedded import free_port
from pipelines.steps import errors, files
from pipelines.steps.fetch import fetch
from pipelines.steps.resize import resize
from pipelines.steps.upload import upload
from tests.processes import eventually
from tests.web import image

pytestmark = pytest.mark.s3

NOBODY = {"AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "nothing", "AWS_DEFAULT_REGION": "us-east-1"}


@pytest.fixture(scope="module")
def s3():
    """The address of an S3 server on loopback that has a bucket named `bucket`."""
    port = free_port()
    environment = {**os.environ, **NOBODY}
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        eventually(lambda: _listens(port), what="moto_server")
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(20)


@pytest.fixture(autouse=True)
def credentials(monkeypatch):
    for name, value in NOBODY.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def bucket(s3):
    import s3fs

    system = s3fs.S3FileSystem(endpoint_url=s3)
    system.makedirs("bucket", exist_ok=True)
    return system


def test_all_steps_meet_in_s3(web, s3, bucket):
    url = web.answer("/a.jpg", image(1600, 1200))
    fetched = fetch(url, to="s3://bucket/tmp/1", max_bytes=10**6, allow_private=True, endpoint_url=s3)
    resized = resize(fetched["file"], to="s3://bucket/tmp/2", size="80x80", endpoint_url=s3)
    for _ in range(2):
        done = upload(resized["file"], to="s3://bucket/images/", name="a.jpg", endpoint_url=s3)
        assert done == {"address": "s3://bucket/images/a.jpg", "bytes": resized["bytes"]}
    bucket.invalidate_cache()
    assert bucket.ls("bucket/images") == ["bucket/images/a.jpg"]
    assert len(bucket.cat_file("bucket/images/a.jpg")) == done["bytes"]


def test_old_objects_are_found_and_deleted(s3, bucket):
    files.save(BytesIO(b"x"), "s3://bucket/old/task-1", endpoint_url=s3)
    assert files.written_before("s3://bucket/old", datetime.now(UTC) - timedelta(days=1), endpoint_url=s3) == []
    assert files.written_before("s3://bucket/old/", datetime.now(UTC) + timedelta(days=1), endpoint_url=s3) == [
        "s3://bucket/old/task-1"
    ]
    files.delete("s3://bucket/old/task-1", endpoint_url=s3)
    assert files.written_before("s3://bucket/old", datetime.now(UTC) + timedelta(days=1), endpoint_url=s3) == []


def test_an_object_that_is_gone_says_so(s3, bucket):
    with pytest.raises(errors.FileMissing, match="s3://bucket/gone"):
        files.read("s3://bucket/gone", endpoint_url=s3)


def test_a_bucket_that_does_not_exist_dies_for_good(s3, bucket):
    with pytest.raises(errors.FileMissing, match="s3://nowhere/a"):
        files.save(BytesIO(b"x"), "s3://nowhere/a", endpoint_url=s3)


def test_an_s3_that_is_away_may_come_back():
    with pytest.raises(errors.StorageAway):
        files.read("s3://bucket/a", endpoint_url=f"http://127.0.0.1:{free_port()}")


def _listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
