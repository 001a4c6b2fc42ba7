"""Programs side by side, when something around them is not as it should be."""

import contextlib
import sys
import uuid
from pathlib import Path

import pytest

from config.supervisor import Program, Supervisor

# More than a pipe holds.
CHATTY = """
import pathlib, sys, time
for _ in range(5_000):
    print("x" * 100)
pathlib.Path(sys.argv[1]).touch()
time.sleep(600)
"""


def test_a_full_disk_stops_no_program(tmp_path):
    done = tmp_path / "done"

    def is_ready():
        if done.exists():
            raise KeyboardInterrupt
        return False

    log = Path("/dev/full").open("w")  # noqa: SIM115  (closing it fails, too)
    program = Program(name="chatty", command=(sys.executable, "-c", CHATTY, str(done)))
    supervisor = Supervisor([program], mark=str(uuid.uuid4()), output=log)
    try:
        with pytest.raises(KeyboardInterrupt):
            supervisor.run(is_ready=is_ready, when_ready=lambda: None)
    finally:
        with contextlib.suppress(OSError):
            log.close()
