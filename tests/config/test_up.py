import json
import signal
import socket
import stat
import urllib.error
import urllib.request

import psutil
import pytest

from config.embedded import free_port
from tests.platform import a_platform
from tests.processes import eventually

pytestmark = [pytest.mark.worker, pytest.mark.timeout(600)]


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def running():
    with a_platform() as platform:
        platform.start()
        yield platform


def test_the_banner_shows_addresses_and_passwords_that_work(running):
    assert f"{running.url}/" in running.output.split()
    done = running.manage(
        "shell",
        "-c",
        f"from django.contrib.auth import authenticate as a; print(a(username='admin', password='{running.password}'))",
    )
    assert done.stdout.splitlines()[-1] == "admin", done.stderr


def test_live_ready_and_the_login_page_answer(running):
    assert running.get("/-/live") == (200, '{"alive": true}')
    assert running.get("/-/ready") == (200, '{"ready": true, "database": true, "broker": true}')
    status, page = running.get("/")
    assert status == 200
    assert "csrfmiddlewaretoken" in page


def test_flower_asks_for_the_password_and_no_secret_is_on_a_command_line(running):
    eventually(lambda: listens(running.flower_port), 150, "Flower listens")
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


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--port", "5801", "--flower-port", "5801"), "cannot both listen on port 5801"),
        (("--port", "99999"), "'99999' is no port"),
        (("--flower-port", "0"), "'0' is no port"),
    ],
)
def test_ports_that_cannot_be_are_refused(running, folder, arguments, says):
    done = running.manage("up", *arguments, VAR_DIR=str(folder / "other"))
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_that_cannot_be_made_is_named(running):
    done = running.manage("up", VAR_DIR="/dev/null/var")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "CommandError: Not a directory: /dev/null/var. What `up` keeps is in /dev/null/var.\n"


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
