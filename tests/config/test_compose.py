import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import yaml
from django.core.management import get_commands

from config.embedded import free_port
from config.environment import Environment
from tests.processes import ROOT, Process, environment, eventually

COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if service.get("image") == "redeliver"}
EXAMPLE = (ROOT / ".env.example").read_text()
# Flower's own.
FOREIGN = {"FLOWER_BASIC_AUTH"}
PROGRAMS = Path(sys.executable).parent


def test_the_services_are_those_of_up_and_what_they_need():
    assert set(OURS) == {"prepare", "web", "worker", "beat", "flower"}
    assert set(SERVICES) - set(OURS) == {"postgres", "redis", "rabbitmq"}
    assert SERVICES["rabbitmq"]["profiles"] == ["rabbitmq"]
    assert SERVICES["worker"]["deploy"]["replicas"] > 1
    assert SERVICES["beat"]["deploy"]["replicas"] == 2


@pytest.mark.parametrize("name", OURS)
def test_the_command_of_each_service_exists(name):
    program, *arguments = OURS[name]["command"]
    assert shutil.which(program, path=str(PROGRAMS))
    if program == "python":
        assert arguments[0] == "manage.py"
        assert arguments[1] in get_commands()


@pytest.mark.parametrize("name", OURS)
def test_each_variable_is_one_the_platform_reads(name):
    assert not set(OURS[name]["environment"]) - set(Environment.model_fields) - FOREIGN


@pytest.mark.parametrize("name", [name for name in SERVICES if name != "prepare"])
def test_each_service_that_serves_tells_how_it_is(name):
    assert SERVICES[name]["healthcheck"]["test"]


def test_every_secret_comes_from_the_env_file_and_the_example_holds_none():
    text = (ROOT / "docker-compose.yml").read_text()
    asked = set(re.findall(r"(?<!\$)\$\{([A-Z_]+)", text))
    given = dict(re.findall(r"^(?:# )?([A-Z0-9_]+)=(.*)$", EXAMPLE, re.MULTILINE))
    assert asked <= set(given) | {"TIME_ZONE", "WORKER_CONCURRENCY"}
    secret = {name for name in asked if re.search("KEY|PASSWORD|TOKEN|WEBHOOK", name)}
    assert {"SECRET_KEY", "POSTGRES_PASSWORD", "REDIS_PASSWORD", "FLOWER_PASSWORD"} <= secret
    assert not {name for name in secret if given[name]}
    for name in ("SECRET_KEY", "POSTGRES_PASSWORD", "REDIS_PASSWORD", "FLOWER_PASSWORD"):
        assert re.search(rf"\$\{{{name}:\?", text), f"{name} may be missing without a word"


@pytest.mark.worker
@pytest.mark.django_db(transaction=True)
def test_the_commands_run_as_they_stand(tmp_path):
    """Each service's command, as a plain process on the test servers."""
    port, flower_port = free_port(), free_port()
    extra = {
        "web": {"WEB_PORT": str(port)},
        "flower": {"FLOWER_BASIC_AUTH": "admin:secret"},
        "worker": {},
        "beat": {},
    }
    done = subprocess.run(
        [PROGRAMS / "python", *OURS["prepare"]["command"][1:]],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    processes = {}
    try:
        for name, variables in extra.items():
            program, *arguments = OURS[name]["command"]
            arguments = [
                f"--port={flower_port}" if word == "--port=5555" else word.replace("=0.0.0.0", "=127.0.0.1")
                for word in arguments
            ]
            processes[name] = Process(str(PROGRAMS / program), *arguments, log=tmp_path / name, **variables)
        processes["worker"].wait_for(" ready.", patience=120)
        processes["beat"].wait_for("beat: Starting", patience=120)
        eventually(lambda: _status(f"http://127.0.0.1:{port}/-/ready") == 200, 120, "web is ready")
        eventually(lambda: _status(f"http://127.0.0.1:{flower_port}/healthcheck") == 200, 120, "Flower is healthy")
        assert _status(f"http://127.0.0.1:{flower_port}/") == 401
    finally:
        codes = {name: process.stop() for name, process in processes.items()}
    assert codes == dict.fromkeys(codes, 0), {name: process.output[-2000:] for name, process in processes.items()}


def _status(address: str) -> int:
    try:
        with urllib.request.urlopen(address, timeout=10) as response:
            return response.status
    except urllib.error.HTTPError as problem:
        problem.close()
        return problem.code
    except OSError:
        return 0
