"""The whole platform as a person starts it: `manage.py up` in a folder of its own."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil

from config.embedded import free_port
from config.environment import Environment
from tests.processes import ROOT, eventually

READY = "Redeliver is ready."
# Everything starts at once, on machines that stall.
PATIENCE = 150.0


class Platform:
    """`manage.py up` as a person starts it, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.var = folder / "var of mine"  # people have folders with spaces
        self.port, self.flower_port = free_port(), free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self.starts = 0

    @property
    def environment(self) -> dict[str, str]:
        outside = {name: value for name, value in os.environ.items() if name not in Environment.model_fields}
        return {**outside, "VAR_DIR": str(self.var)}

    @property
    def output(self) -> str:
        return (self.folder / f"output {self.starts}").read_text(errors="replace")

    def start(self, *arguments: str) -> None:
        self.starts += 1
        with (self.folder / f"output {self.starts}").open("ab") as output:
            self.process = subprocess.Popen(
                [
                    sys.executable, "manage.py", "up", "--port", str(self.port), "--flower-port", str(self.flower_port),
                    *arguments,
                ],
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )  # fmt: skip
        eventually(lambda: READY in self.output or self.process.poll() is not None, PATIENCE, "up is ready")
        assert READY in self.output, self.output

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def password(self) -> str:
        """The admin's, as the banner of the first start shows it."""
        words = self.output[self.output.index(READY) :].split()
        return words[words.index("admin") + 2]

    def stop(self, number: int = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return self.process.wait(90)

    def manage(self, *arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            env={**self.environment, **extra},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=20) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as problem:
            with problem:
                return problem.code, problem.read().decode()

    def processes(self) -> list[psutil.Process]:
        """All that belongs to it: its own, and the servers whose command line names its folder."""
        found = []
        for process in psutil.process_iter():
            try:
                # Redis writes over its command line and has an environment of its own, but works in its folder.
                belongs = (
                    str(self.var) in " ".join(process.cmdline())
                    or process.environ().get("VAR_DIR") == str(self.var)
                    or process.cwd().startswith(str(self.var))
                )
            except psutil.Error:
                continue
            if belongs:
                found.append(process)
        return found

    def named(self, word: str) -> list[psutil.Process]:
        """The leaders of one program."""
        return [
            p for p in self.processes() if word in p.cmdline() and p.parent() and p.parent().pid == self.process.pid
        ]

    def destroy(self) -> None:
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        if self.process:
            self.process.wait()


@contextlib.contextmanager
def a_platform() -> Iterator[Platform]:
    # Not pytest's folder: as root PostgreSQL runs as another user, and each pytest closes /tmp/pytest-of-root to others again.
    with tempfile.TemporaryDirectory(prefix="redeliver-up-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o711)
        platform = Platform(Path(folder))
        try:
            yield platform
        finally:
            platform.destroy()
