import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest

from config.embedded import Redis, free_port
from tests.processes import ROOT, Process, environment, eventually


def get(port: int, path: str, host: str = "127.0.0.1") -> tuple[int, str] | None:
    try:
        with urllib.request.urlopen(f"http://{host}:{port}{path}", timeout=30) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as problem:
        with problem:
            return problem.code, problem.read().decode()
    except OSError:
        return None


def web(log, host: str = "127.0.0.1", **variables: str) -> tuple[Process, int]:
    port = free_port()
    process = Process(
        "-m", "gunicorn", "-c", "python:config.gunicorn", "config.wsgi", log=log, WEB_PORT=str(port), **variables
    )
    eventually(lambda: get(port, "/-/live", host), 120, "the web server answers")
    return process, port


@pytest.mark.django_db
def test_a_web_server_without_its_servers_lives_and_is_not_ready(tmp_path):
    process, port = web(
        tmp_path / "log", DATABASE_URL="postgres://secret:word@127.0.0.1:1/x", BROKER_URL="redis://127.0.0.1:1/0"
    )
    try:
        assert get(port, "/-/live") == (200, '{"alive": true}')
        assert get(port, "/-/ready") == (503, '{"ready": false, "database": false, "broker": false}')
    finally:
        process.stop()


@pytest.mark.django_db
def test_a_redis_that_hangs_takes_no_thread_away(tmp_path):
    redis = Redis(tmp_path / "redis", port=free_port(), password="secret")
    redis.start()
    pid = int((redis.folder / "pid").read_text())
    process, port = web(tmp_path / "log", BROKER_URL=redis.url)
    os.kill(pid, signal.SIGSTOP)
    try:
        # More than there are threads (config/gunicorn.py).
        for _ in range(2):
            with ThreadPoolExecutor(8) as probes:
                answers = set(probes.map(lambda _: get(port, "/-/ready"), range(8)))
            assert answers == {(503, '{"ready": false, "database": true, "broker": false}')}
        assert get(port, "/-/live") == (200, '{"alive": true}')
    finally:
        os.kill(pid, signal.SIGCONT)
        process.stop()
        redis.stop()


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
def test_a_web_server_may_listen_on_ipv6(tmp_path):
    process, port = web(tmp_path / "log", host="[::1]", WEB_HOST="::1", ALLOWED_HOSTS="[::1]")
    try:
        assert get(port, "/-/live", "[::1]") == (200, '{"alive": true}')
    finally:
        process.stop()


@pytest.mark.django_db
def test_behind_https_probes_answer_and_pages_redirect(tmp_path):
    process, port = web(tmp_path / "log", HTTPS="true")
    try:
        assert get(port, "/-/ready") == (200, '{"ready": true, "database": true, "broker": true}')
        opener = urllib.request.build_opener(
            type("Stay", (urllib.request.HTTPRedirectHandler,), {"redirect_request": lambda *_: None})
        )
        with pytest.raises(urllib.error.HTTPError) as redirect:
            opener.open(f"http://127.0.0.1:{port}/login/", timeout=30)
        redirect.value.close()
        assert redirect.value.headers["Location"] == f"https://127.0.0.1:{port}/login/"
    finally:
        process.stop()


def test_an_image_collects_hashed_static_files(tmp_path):
    clone = tmp_path / "clone"
    for name in subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True).splitlines():
        if name.endswith((".py", ".css", ".js", ".svg")) and not name.startswith("tests/"):
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, clone / name)
    bare = {name: value for name, value in environment().items() if name in {"PATH", "HOME"}}
    done = subprocess.run(
        [sys.executable, "manage.py", "collectstatic", "--no-input"],
        cwd=clone,
        env=bare,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    paths = json.loads((clone / "staticfiles" / "staticfiles.json").read_text())["paths"]
    assert paths["ops.css"] != "ops.css"
    assert (clone / "staticfiles" / f"{paths['ops.css']}.gz").exists()
