"""A real RabbitMQ of our own: its node, ports, data and epmd live in one temporary folder and end with it.

Import `rabbitmq_url` into a test module (or use it by name: conftest.py offers it) and give it to a `Worker(BROKER_URL=…)`.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from kombu import Connection

from config.celery import app
from config.embedded import free_port, new_password
from tests.processes import eventually

# Debian's /usr/sbin/rabbitmq-server insists on root or the user rabbitmq; the server itself does not.
PROGRAMS = ("/usr/lib/rabbitmq/bin/rabbitmq-server", "rabbitmq-server")
START_SECONDS = 90


class RabbitMQ:
    """One node on loopback. `stop()` ends it, its helpers and its epmd."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, self.password = free_port(), new_password()
        self.processes: list[subprocess.Popen[bytes]] = []

    @property
    def url(self) -> str:
        return f"amqp://redeliver:{self.password}@127.0.0.1:{self.port}//"

    def start(self) -> None:
        (self.folder / "enabled_plugins").write_text("[].")
        (self.folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{self.port}\ndefault_user = redeliver\ndefault_pass = {self.password}\n"
            "vm_memory_high_watermark.absolute = 1GB\ndisk_free_limit.absolute = 50MB\n"
        )
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(self.folder),  # the cookie
            "ERL_EPMD_PORT": str(free_port()),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_CONF_ENV_FILE": os.devnull,
            "RABBITMQ_NODENAME": f"test{self.port}@localhost",
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_LOGS": "-",
        }
        # Started by us in the foreground: the one that Erlang starts itself outlives it.
        self._run("epmd", "-port", environment["ERL_EPMD_PORT"], "-address", "127.0.0.1", environment=environment)
        eventually(lambda: _listens(int(environment["ERL_EPMD_PORT"])), what="epmd listens")
        self._run(str(_program()), environment=environment)
        eventually(self._answers, START_SECONDS, f"RabbitMQ answers; see {self.folder / 'output'}")

    @contextmanager
    def silent(self) -> Iterator[None]:
        """It takes bytes and answers nothing, as one that is short of memory."""
        os.killpg(self.processes[-1].pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.killpg(self.processes[-1].pid, signal.SIGCONT)

    def stop(self, *, kill: bool = False) -> None:
        """Stop it and wait; with `kill`, as a power loss would. It can be started again and has its durable messages."""
        for process in reversed(self.processes):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL) if kill else process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        self.processes.clear()

    def _run(self, *command: str, environment: dict[str, str]) -> None:
        with (self.folder / "output").open("ab") as output:
            self.processes.append(
                subprocess.Popen(
                    command,
                    env=environment,
                    cwd=self.folder,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
            )

    def _answers(self) -> bool:
        if self.processes[-1].poll() is not None:
            raise AssertionError(f"RabbitMQ ended:\n{(self.folder / 'output').read_text()[-4000:]}")
        try:
            with Connection(self.url, connect_timeout=2) as connection:
                connection.ensure_connection(max_retries=1, timeout=3)
        except Exception:
            return False
        return True


def _program() -> str | None:
    return next((found for name in PROGRAMS if (found := shutil.which(name))), None)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="session")
def rabbitmq() -> Iterator[RabbitMQ]:
    """A RabbitMQ that this test run started; mark such tests `rabbitmq`."""
    if _program() is None or shutil.which("epmd") is None:
        reason = "rabbitmq-server is not installed (Debian: apt-get install rabbitmq-server)"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    # A short path of its own: Erlang's files below it have long names.
    with tempfile.TemporaryDirectory(prefix="redeliver-rabbitmq-", ignore_cleanup_errors=True) as folder:
        server = RabbitMQ(Path(folder))
        try:
            server.start()
            yield server
        finally:
            server.stop()


@pytest.fixture(scope="session")
def rabbitmq_url(rabbitmq: RabbitMQ) -> str:
    """Its address."""
    return rabbitmq.url


@pytest.fixture
def on_rabbitmq(rabbitmq_url: str) -> Iterator[str]:
    """This process publishes to RabbitMQ for the length of a test, as one with BROKER_URL=amqp://… would."""
    with publishing_to(rabbitmq_url, confirm_publish=True):
        yield rabbitmq_url


@contextmanager
def publishing_to(url: str, **options: object) -> Iterator[None]:
    """This process publishes to another broker for a while."""
    before = app.conf.broker_url, app.conf.broker_transport_options
    _publish_to(url, options)
    try:
        yield
    finally:
        _publish_to(*before)


def _publish_to(url: str, options: dict[str, object]) -> None:
    # Both: a monkeypatched broker_write_url leaves its old value behind, which would win.
    app.conf.broker_url = app.conf.broker_write_url = url
    app.conf.broker_transport_options = options
    app._pool = app.amqp._producer_pool = None  # made anew from the settings; kombu keeps one pool an address
