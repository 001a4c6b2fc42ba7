import contextlib
import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

import psutil
import pytest

from config.embedded import free_port
from config.environment import Environment
from tests.processes import ROOT, eventually

READY = "Redeliver is ready."
# Everything starts at once, on machines that stall.
PATIENCE = 150.0

pytestmark = [pytest.mark.worker, pytest.mark.timeout(600)]


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
                belongs = str(self.var) in " ".join(process.cmdline()) or process.environ().get("VAR_DIR") == str(
                    self.var
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
def a_platform():
    # Not pytest's folder: as root PostgreSQL runs as another user, and each pytest closes /tmp/pytest-of-root to others again.
    with tempfile.TemporaryDirectory(prefix="redeliver-up-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o711)
        platform = Platform(Path(folder))
        try:
            yield platform
        finally:
            platform.destroy()


@pytest.fixture(scope="module")
def running():
    with a_platform() as platform:
        platform.start()
        yield platform


def test_the_banner_shows_addresses_and_passwords_that_work(running):
    words = running.output[running.output.index(READY) :].split()
    password = words[words.index("admin") + 2]
    assert f"http://127.0.0.1:{running.port}/" in words
    done = running.manage(
        "shell",
        "-c",
        f"from django.contrib.auth import authenticate as a; print(a(username='admin', password='{password}'))",
    )
    assert done.stdout.splitlines()[-1] == "admin", done.stderr


def test_live_ready_and_the_login_page_answer(running):
    assert running.get("/-/live") == (200, '{"alive": true}')
    assert running.get("/-/ready") == (200, '{"ready": true, "database": true, "broker": true}')
    status, page = running.get("/")
    assert status == 200
    assert "csrfmiddlewaretoken" in page


def test_flower_asks_for_the_password_and_no_secret_is_on_a_command_line(running):
    with pytest.raises(urllib.error.HTTPError) as refusal:
        urllib.request.urlopen(f"http://127.0.0.1:{running.flower_port}/", timeout=20)
    refusal.value.close()
    assert refusal.value.code == 401
    told = json.loads((running.var / "environment.json").read_text())
    password = urllib.request.HTTPPasswordMgrWithDefaultRealm()
    password.add_password(None, f"http://127.0.0.1:{running.flower_port}/", "admin", told["FLOWER_PASSWORD"])
    opener = urllib.request.build_opener(urllib.request.HTTPBasicAuthHandler(password))
    with opener.open(f"http://127.0.0.1:{running.flower_port}/", timeout=20) as page:
        assert page.status == 200
    secrets = [
        told["SECRET_KEY"],
        told["FLOWER_PASSWORD"],
        *(told[name].split(":")[2].split("@")[0] for name in ("DATABASE_URL", "BROKER_URL")),
    ]
    lines = "\n".join(" ".join(process.cmdline()) for process in running.processes())
    assert not [secret for secret in secrets if secret in lines]
    assert stat.S_IMODE((running.var / "environment.json").stat().st_mode) == 0o600


def test_a_command_in_a_second_terminal_finds_the_same_servers(running):
    done = running.manage(
        "shell",
        "-c",
        "from django.contrib.auth.models import Group; print(sorted(g.name for g in Group.objects.all()))",
    )
    assert done.stdout.splitlines()[-1] == "['Operators', 'Responders']", done.stderr
    assert running.manage("seed_groups").stdout == "All groups are there; nothing was changed.\n"


def test_a_second_up_is_refused_in_one_sentence(running):
    done = running.manage("up", "--port", str(free_port()))
    assert done.returncode == 2
    assert done.stderr == (
        f"CommandError: `up` runs here already (process {running.process.pid}). Stop it with Ctrl-C where it runs.\n"
    )


@pytest.mark.parametrize(("option", "variable"), [("--port", "WEB_PORT"), ("--flower-port", "FLOWER_PORT")])
def test_a_taken_port_is_named_with_what_chooses_another(running, folder, option, variable):
    ports = {"--port": str(free_port()), "--flower-port": str(free_port()), option: str(running.port)}
    arguments = [word for pair in ports.items() for word in pair]
    done = running.manage("up", *arguments, VAR_DIR=str(folder / "other"))
    assert done.returncode == 2
    assert f"cannot listen on 127.0.0.1:{running.port} (Address already in use)" in done.stderr
    assert f"{option} {running.port + 1}, or with {variable}." in done.stderr
    assert "Traceback" not in done.stderr


def test_a_killed_worker_is_started_again_without_leftovers(running):
    (leader,) = running.named("worker")
    family = [leader, *leader.children(recursive=True)]
    leader.kill()
    eventually(
        lambda: "worker was killed by SIGKILL; starting it again" in " ".join(running.output.replace("|", " ").split())
    )
    eventually(lambda: running.output.count(" ready.") >= 3, what="the second worker is ready")
    assert not [process for process in family if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]
    assert len(running.named("worker")) == 1


def test_ctrl_c_ends_everything_and_the_data_is_there_at_the_next_start():
    with a_platform() as platform:
        platform.start()
        told = (platform.var / "environment.json").read_text()
        assert "passwords are shown only now" in platform.output

        # Killed without a chance to clean up: the next start ends what is left and takes the servers over.
        orphans = [p for p in platform.processes() if p.pid != platform.process.pid and "postgres" not in p.name()]
        platform.stop(signal.SIGKILL)
        platform.start()
        assert "that was killed had left behind" in platform.output
        assert "Sign in as admin" in platform.output
        assert (platform.var / "environment.json").read_text() == told
        leftovers = [
            p for p in orphans if p.is_running() and p.status() != psutil.STATUS_ZOMBIE and "redis" not in p.name()
        ]
        assert not leftovers

        assert platform.stop(signal.SIGINT) == 0, platform.output
        assert "Traceback" not in platform.output
        assert platform.output.endswith("Stopped.\n")
        assert platform.processes() == []

        away = platform.manage("seed_groups")
        assert away.returncode == 2
        assert away.stderr.endswith("Start the servers with `bin/up` in another terminal.\n")
        assert away.stderr.count("\n") == 1

        platform.start("--reset-password")
        assert "passwords are shown only now" in platform.output
        assert platform.stop(signal.SIGTERM) == 0, platform.output
        assert platform.processes() == []
