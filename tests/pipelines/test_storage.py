import os
from datetime import timedelta
from urllib.parse import urlsplit

import pytest
from django_celery_results.models import TaskResult
from hypothesis import given
from hypothesis import strategies as st

from pipelines.storage import file_of, prune_files, task_of

DAYS = timedelta(days=90)


@pytest.fixture
def file(settings, tmp_path):
    """Make a file in the storage: `file("task-1", days=100)`."""
    settings.STORAGE_URL = f"file://{tmp_path}/storage"
    (tmp_path / "storage").mkdir()

    def file(name, days):
        path = tmp_path / "storage" / name
        path.write_bytes(b"x")
        written = path.stat().st_mtime - days * 86_400
        os.utime(path, (written, written))
        return path

    return file


@given(st.text(min_size=1))
def test_a_file_belongs_to_its_task_and_stays_in_its_folder(task_id):
    assert task_of(f"{file_of(task_id)}.jpg") == task_of(file_of(task_id)) == task_id
    assert urlsplit(file_of(task_id)).path.rsplit("/", 1)[1].startswith("task-")


@pytest.mark.django_db
def test_old_files_go_when_their_results_have_gone(file):
    TaskResult.objects.create(task_id="needed", status="SUCCESS")
    kept = [file("task-needed.jpg", 100), file("task-new", 10), file("notes.txt", 100)]
    gone = [file("task-old", 100), file("task-old.jpg", 100), file("task-killed.1a2b3c4d.part", 100)]
    assert prune_files(DAYS, dry_run=True) == 3
    assert all(path.exists() for path in gone)
    assert prune_files(DAYS) == 3
    assert [path.exists() for path in kept + gone] == [True] * 3 + [False] * 3
    assert prune_files(DAYS) == 0


@pytest.mark.django_db
def test_a_storage_that_was_never_used_holds_nothing_old(settings, tmp_path):
    settings.STORAGE_URL = f"file://{tmp_path}/never"
    assert prune_files(DAYS) == 0
