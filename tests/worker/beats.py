"""Beats for the tests: started together, told apart by their names in the table, made to lead, and ended."""

import json
import os
import random
import signal
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from django.db import connection

from schedules import edit
from schedules.due import Every
from schedules.history import Beat, Occurrence
from schedules.models import Policy, Schedule
from tests.processes import Process, eventually


class BeatProcess(Process):
    """One `celery beat`."""

    def __init__(self, log: Path, *, module: str = "celery", **extra: str) -> None:
        super().__init__("-m", module, "-A", "config", "beat", "--loglevel", "INFO", log=log, **extra)

    @property
    def name(self) -> str:
        return f"{socket.gethostname()}:{self.process.pid}"

    @property
    def leads(self) -> bool:
        return Beat.objects.filter(name=self.name, leads_since__isnull=False).exists()

    def cut(self) -> None:
        """End its session in PostgreSQL."""
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s",
                [f"redeliver beat {self.name}"[:63]],
            )


@contextmanager
def beats(folder: Path, number: int, **extra: str) -> Iterator[list[BeatProcess]]:
    """So many beats, one of which leads."""
    started = [BeatProcess(folder / f"beat-{n}.log", **extra) for n in range(number)]
    try:
        eventually(lambda: Beat.objects.count() >= number and leader(started), what="one of the beats leads")
        yield started
    finally:
        for one in started:
            if one.alive:
                os.kill(one.process.pid, signal.SIGCONT)
            one.stop()


def leader(running: list[BeatProcess]) -> BeatProcess | None:
    leading = set(Beat.objects.filter(leads_since__isnull=False).values_list("name", flat=True))
    return next((one for one in running if one.name in leading), None)


def every(name: str, number: int = 1, period: str = "seconds", policy=None, **columns) -> Schedule:
    """A schedule, with a policy if one is given."""
    for field_ in ("args", "kwargs"):
        if field_ in columns:
            columns[field_] = json.dumps(columns[field_])
    schedule = Schedule(name=name, **{"task": "tests.anything", **columns})
    edit.place(schedule, Every.parse(number, period))
    edit.save(schedule)
    if policy:
        Policy.objects.create(schedule_id=schedule.pk, **policy)
    return schedule


@dataclass
class Storm:
    """What came of some time of killing, stopping and cutting off whoever leads."""

    seconds: float = 0
    acts: Counter = field(default_factory=Counter)
    failovers: dict[str, list[float]] = field(default_factory=dict)
    occurrences: int = 0
    doubles: int = 0
    missed: int = 0
    dropped_copies: int = 0

    def __str__(self) -> str:
        times = "; ".join(
            f"{kind} {sorted(found)[len(found) // 2]:.2f} s (longest {max(found):.2f})"
            for kind, found in sorted(self.failovers.items())
        )
        return (
            f"{self.seconds:.0f} s, {dict(self.acts)}: {self.occurrences} occurrences, doubles {self.doubles}, missed {self.missed}, "
            f"second copies dropped {self.dropped_copies}; failover {times}"
        )


def storm(
    folder: Path, worker, log: Path, seconds: float, *, queue: str, schedules: int = 6, seed=None, **extra: str
) -> Storm:
    """Three beats, schedules of every second, and a leader that is attacked again and again."""
    chance = random.Random(seed)
    policy = {"missed": "all", "catch_up_limit": 1000}
    names = [f"Storm {n}" for n in range(schedules)]
    for name in names:
        every(name, task="tests.note", queue=queue, kwargs={"label": name, "log": str(log)}, policy=policy)
    report = Storm()
    began = time.monotonic()
    with beats(folder, 3, **extra) as running:
        while time.monotonic() - began < seconds:
            time.sleep(chance.uniform(0.5, 2))
            _attack(chance, running, folder, report, extra)
        for one in running:
            os.kill(one.process.pid, signal.SIGCONT)
        report.seconds = time.monotonic() - began
        eventually(lambda: leader(running), what="somebody leads after the storm")
        last = Occurrence.objects.order_by("-due_at").first().due_at
        eventually(lambda: Occurrence.objects.filter(due_at__gt=last, state="sent").exists(), what="it goes on")
        Schedule.objects.filter(name__in=names).update(enabled=False)
        eventually(lambda: not Occurrence.objects.filter(state="claimed").exists(), what="everything claimed is sent")
    ran = eventually(lambda: _all_ran(log), what="everything sent has run")
    report.occurrences = Occurrence.objects.count()
    report.doubles = sum(count - 1 for count in ran.values())
    report.missed = sum(_gaps(name) for name in names) + len(_ids() - set(ran))
    report.dropped_copies = worker.output.count("occurrence.second_copy_dropped")
    return report


def _attack(chance, running, folder, report, extra) -> None:
    victim = eventually(lambda: leader(running), what="somebody leads")
    kind = chance.choice(["kill", "stop", "cut"])
    report.acts[kind] += 1
    began = time.monotonic()
    if kind == "kill":
        victim.stop(signal.SIGKILL)
    elif kind == "stop":
        os.kill(victim.process.pid, signal.SIGSTOP)
    else:
        victim.cut()
    eventually(lambda: _another(running, victim, kind), what=f"somebody leads after: {kind}")
    report.failovers.setdefault(kind, []).append(time.monotonic() - began)
    if kind == "stop":
        time.sleep(chance.uniform(0, 1))
        os.kill(victim.process.pid, signal.SIGCONT)
    elif kind == "kill":
        running.remove(victim)
        running.append(BeatProcess(folder / f"beat-{report.acts.total() + 10}.log", **extra))


def _another(running, victim, kind) -> bool:
    """Another beat leads; after a cut the same one may be the quickest."""
    if kind != "cut":
        return (found := leader(running)) is not None and found is not victim
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 1650811252 AND granted")
        return cursor.fetchone()[0] == 1


def _ids() -> set[str]:
    return {str(pk) for pk in Occurrence.objects.filter(state="sent").values_list("pk", flat=True)}


def _all_ran(log: Path) -> Counter:
    ran = Counter(json.loads(line)[0] for line in log.read_text().splitlines())
    return ran if _ids() <= set(ran) else Counter()


def _gaps(name: str) -> int:
    """Seconds without a run between the first and the last, and what was folded into others."""
    found = list(Occurrence.objects.filter(name=name).order_by("due_at"))
    expected = round((found[-1].due_at - found[0].due_at).total_seconds()) + 1
    return expected - sum(1 for one in found if one.state == "sent")
