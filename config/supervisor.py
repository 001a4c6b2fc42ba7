"""Runs programs side by side: their output prefixed, the dead started again, all of them ended together.

Each program is the leader of a session of its own, so that Ctrl-C reaches nobody but us, and carries a mark in its environment,
which its children inherit: what is left of a supervisor that was killed can be found by it, whoever the parents were.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO

import psutil

# Not read by the platform: it only marks processes.
MARK = "REDELIVER_UP"
LOOK_SECONDS = 0.2
# TERM lets a worker finish its tasks; QUIT makes it give them back to the broker; KILL leaves that to the broker's time-out.
# Only leaders hear the first two: a pool process that is told to end counts as the death of its task.
STEPS = ((signal.SIGTERM, 15), (signal.SIGQUIT, 5), (signal.SIGKILL, 5))
RESTARTS, RESTARTS_SECONDS = 5, 60
COLOURS = (36, 33, 32, 35, 34)


class GaveUp(RuntimeError):
    """A program ends again and again; the message names it."""


@dataclass(kw_only=True)
class Program:
    """A command to keep running, and what it needs in its environment beside ours. `later`: it waits until the others are ready."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    later: bool = False
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)
    started: deque[float] = field(default_factory=lambda: deque(maxlen=RESTARTS), init=False)


class Supervisor:
    """Keeps `programs` running. `mark` is this supervisor's own: nobody else's processes carry it."""

    def __init__(self, programs: Sequence[Program], *, mark: str, output: IO[str] = sys.stdout) -> None:
        self.programs, self.mark, self.output = programs, mark, output
        self.width = max(len(program.name) for program in programs)
        self._writing = threading.Lock()

    def run(self, *, is_ready: Callable[[], bool], when_ready: Callable[[], None]) -> None:
        """Start the programs and keep them running until this thread is interrupted; then end them.

        Raises:
            KeyboardInterrupt: when they have ended.
            GaveUp: a program ended more than `RESTARTS` times in `RESTARTS_SECONDS`; the others have been ended.
        """
        ready = False
        try:
            self._start_all(later=False)
            while True:
                if not ready and (ready := is_ready()):
                    when_ready()
                    self._start_all(later=True)
                time.sleep(LOOK_SECONDS)
                for program in self.programs:
                    self._keep(program)
        finally:
            end(self.mark)
            for program in self.programs:
                if program.process:
                    program.process.wait()

    def _start_all(self, *, later: bool) -> None:
        for program in self.programs:
            if program.later == later:
                self._start(program)

    def _start(self, program: Program) -> None:
        program.started.append(time.monotonic())
        program.process = subprocess.Popen(  # noqa: S603
            program.command,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **program.environment, MARK: self.mark},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        threading.Thread(target=self._relay, args=(program, program.process.stdout), daemon=True).start()

    def _keep(self, program: Program) -> None:
        if program.process is None or program.process.poll() is None:
            return
        how = _how_it_ended(program.process.returncode)
        # Children that outlived it would go on beside those of its successor.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(program.process.pid, signal.SIGKILL)
        recent = [moment for moment in program.started if time.monotonic() - moment < RESTARTS_SECONDS]
        if len(recent) == RESTARTS:
            raise GaveUp(
                f"{program.name} {how}, {RESTARTS} times within {RESTARTS_SECONDS} seconds. Its last lines are above."
            )
        self._write(program, f"{how}; starting it again")
        self._start(program)

    def _relay(self, program: Program, lines: IO[bytes]) -> None:
        with lines:
            for line in lines:
                self._write(program, line.decode(errors="replace").rstrip())

    def _write(self, program: Program, line: str) -> None:
        prefix = f"{program.name:<{self.width}} | "
        if self.output.isatty():
            colour = COLOURS[self.programs.index(program) % len(COLOURS)]
            prefix = f"\033[{colour}m{prefix}\033[0m"
        # Where nobody can write (a full disk, a reader that left) the programs go on, and their pipes are emptied.
        with self._writing, contextlib.suppress(OSError):
            self.output.write(f"{prefix}{line}\n")
            self.output.flush()


def end(mark: str) -> int:
    """End every process with this mark, gently first; Ctrl-C meanwhile goes on to the next step. Returns how many there were."""
    found = len(_marked(mark))
    for number, patience in STEPS:
        with contextlib.suppress(KeyboardInterrupt):
            everybody = _marked(mark)
            pids = {process.pid for process in everybody}
            for process in everybody:
                with contextlib.suppress(psutil.NoSuchProcess):
                    if number == signal.SIGKILL or process.ppid() not in pids:
                        process.send_signal(number)
            deadline = time.monotonic() + patience
            while _marked(mark) and time.monotonic() < deadline:
                time.sleep(LOOK_SECONDS / 2)
        if not _marked(mark):
            break
    return found


def _marked(mark: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        # Gone meanwhile, dead and not yet waited for, or somebody else's.
        with contextlib.suppress(psutil.Error):
            if process.environ().get(MARK) == mark:
                found.append(process)
    return found


def _how_it_ended(code: int) -> str:
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
