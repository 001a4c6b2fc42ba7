"""What a new user reads when something is missing."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.processes import ROOT

SHELL_TOOLS = ("sh", "dirname", "cat", "cksum", "sed", "tail")


@pytest.fixture
def clone(tmp_path):
    """A folder with just enough of the repository to begin, and a PATH with nothing but the shell's own tools."""
    (tmp_path / "clone").mkdir()
    shutil.copytree(ROOT / "bin", tmp_path / "clone" / "bin")
    shutil.copy(ROOT / "requirements-embedded.txt", tmp_path / "clone")
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in SHELL_TOOLS:
        (tools / name).symlink_to(shutil.which(name))
    return tmp_path / "clone"


def program(clone: Path, name: str, text: str) -> None:
    path = clone.parent / "tools" / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def up(clone: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [clone / "bin" / "up"],
        cwd="/",
        env={"PATH": str(clone.parent / "tools"), "HOME": str(clone.parent)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_no_python_is_said(clone):
    done = up(clone)
    assert done.returncode == 2
    assert done.stderr.startswith("Python 3.11 or newer is needed, and there is none here")


def test_an_old_python_is_passed_over(clone):
    program(clone, "python3", "exit 1")
    done = up(clone)
    assert done.returncode == 2
    assert "Python 3.11 or newer is needed" in done.stderr


def test_a_python_without_venv_is_said_with_the_package_to_install(clone):
    program(clone, "python3", 'case "$*" in *ensurepip*) exit 1;; esac')
    done = up(clone)
    assert done.returncode == 2
    assert "its venv and ensurepip modules are missing" in done.stderr
    assert "apt-get install python3-venv" in done.stderr


def test_a_failing_install_shows_the_last_lines_of_pip_and_is_tried_again(clone):
    virtual = clone / ".venv" / "bin"
    virtual.mkdir(parents=True)
    (virtual / "python").write_text(
        '#!/bin/sh\ncase "$*" in *install*) echo "ERROR: No matching distribution found for django"; exit 1;; esac\n'
    )
    (virtual / "python").chmod(0o755)
    for _ in range(2):
        done = up(clone)
        assert done.returncode == 1
        assert "Installing requirements-embedded.txt failed. pip's last lines:" in done.stderr
        assert "    ERROR: No matching distribution found for django" in done.stderr


def test_requirements_are_installed_once_and_again_when_they_change(clone):
    virtual = clone / ".venv" / "bin"
    virtual.mkdir(parents=True)
    (virtual / "python").write_text(f'#!/bin/sh\necho "$*" >> {clone}/calls\n')
    (virtual / "python").chmod(0o755)
    installs = lambda: (clone / "calls").read_text().count("pip install")  # noqa: E731

    assert up(clone).returncode == 0
    assert up(clone).returncode == 0
    assert installs() == 1
    with (clone / "requirements-embedded.txt").open("a") as requirements:
        requirements.write("one-more==1\n")
    assert up(clone).returncode == 0
    assert installs() == 2
    assert (clone / "calls").read_text().rstrip().endswith("manage.py up")


@pytest.mark.parametrize("name", ["up", "test", "check", "venv"])
def test_scripts_are_executable_and_plain_sh(name):
    path = ROOT / "bin" / name
    assert os.access(path, os.X_OK)
    assert path.read_text().startswith("#!/bin/sh\n")
    subprocess.run([shutil.which("dash") or "sh", "-n", path], check=True)
