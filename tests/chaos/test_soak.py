"""The soak in its short form: half a minute of kills, and every task is accounted for."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from tests.chaos.stage import ROOT

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]


@pytest.mark.parametrize("broker", ["redis", pytest.param("rabbitmq", marks=pytest.mark.rabbitmq)])
def test_after_half_a_minute_of_kills_every_task_is_accounted_for(broker, tmp_path):
    if broker == "rabbitmq" and shutil.which("rabbitmqctl") is None and not os.environ.get("CI"):
        pytest.skip("rabbitmq-server is not installed (Debian: apt-get install rabbitmq-server)")
    soak = subprocess.run(
        [
            sys.executable, "-m", "tests.chaos", "--minutes", "0.5", "--broker", broker, "--seed", "7", "--workers", "2",
            "--pause", "3", "--rate", "4", "--keep", str(tmp_path), "--json",
        ],
        cwd=ROOT, env={**os.environ, "PYTHONUNBUFFERED": "1"}, capture_output=True, text=True, timeout=560, check=False,
    )  # fmt: skip
    assert soak.returncode == 0, soak.stdout[-6000:] + soak.stderr[-2000:]
    report = json.loads(soak.stdout.splitlines()[-1])
    assert report["passed"]
    assert report["under_fire"]["ends"]["dead"] > 0
    assert sum(report["kills"].values()) >= 3
