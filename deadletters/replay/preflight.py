"""Can it be replayed, and why not: looked at before anything is sent."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import IntEnum
from typing import Any, NamedTuple

from celery import current_app, states
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from deadletters.envelope import Arguments, Envelope, NoEnvelope
from deadletters.models import NO_TASK_ID, Cause, DeadLetter, State
from deadletters.replay.claim import not_open
from deadletters.replay.cluster import Cluster, inspection
from deadletters.replay.downstream import Downstream
from deadletters.replay.workflow import missing_chords, sets_free

# Older letters ask whether anybody still wants them.
OLD = timedelta(days=7)


class Verdict(IntEnum):
    """How it stands with one letter; the worst finding decides."""

    # Nothing speaks against it.
    REPLAYABLE = 0
    # It can be sent, and a person should know something first.
    LOOK = 1
    # It would not run, or not do what it is meant to.
    BLOCKED = 2

    @property
    def label(self) -> str:
        """For people."""
        return (_("Replayable"), _("Needs a look"), _("Blocked"))[self]

    @property
    def key(self) -> str:
        """For programs and stylesheets."""
        return ("replayable", "look", "blocked")[self]


@dataclass(slots=True)
class Preflight:
    """What was found out about one letter; (verdict, sentence) of each finding."""

    letter: DeadLetter
    findings: list[tuple[Verdict, str]] = field(default_factory=list)
    frees: Downstream = field(default_factory=Downstream)

    @property
    def verdict(self) -> Verdict:
        """The worst."""
        return max((verdict for verdict, _why in self.findings), default=Verdict.REPLAYABLE)

    @property
    def reasons(self) -> list[str]:
        """The sentences behind the verdict, worst first."""
        return [why for _verdict, why in sorted(self.findings, key=lambda found: -found[0])]

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "id": self.letter.pk,
            "task_id": self.letter.task_id,
            "task": self.letter.task_name,
            "verdict": self.verdict.key,
            "reasons": self.reasons,
            "frees": self.frees.names,
            "frees_tasks": len(self.frees.task_ids),
            "died_at": self.letter.died_at.isoformat(),
        }


def preflight(letters: Iterable[DeadLetter], cluster: Cluster | None = None) -> list[Preflight]:
    """Look at each letter; a few questions to the database for all of them, one to the workers (`cluster`: their answer)."""
    cluster = inspection.cluster() if cluster is None else cluster
    checks = [Preflight(letter) for letter in letters]
    ready = succeeded([check.letter.task_id for check in checks])
    for check in checks:
        arguments = _read(check)
        _look_at_message(check, arguments, cluster)
        if check.letter.task_id in ready:
            check.findings.append((Verdict.BLOCKED, _("It has succeeded meanwhile: its result is there.")))
        _look_at_age(check)
    lost = missing_chords(group_id for check in checks for group_id in check.frees.group_ids)
    for check in checks:
        if lost.intersection(check.frees.group_ids):
            gone = _("Its chord cannot be opened again (pruned, or expired): the chord's body could never run.")
            check.findings.append((Verdict.BLOCKED, gone))
    return checks


class Candidate(NamedTuple):
    """What is looked at of a letter that a redrive has in its hands; an empty body is sealed, or was not kept."""

    pk: int
    task_id: str
    task_name: str
    queue: str
    body: bytes
    content_type: str
    content_encoding: str


def blocked(candidates: Sequence[Candidate]) -> dict[int, str]:
    """Which of these letters a redrive leaves out, and why. The chords of those that have one are looked at when they are opened."""
    cluster, found = inspection.cluster(), {}
    ready = succeeded([one.task_id for one in candidates])
    for one in candidates:
        if one.task_id in ready:
            found[one.pk] = _("It has succeeded meanwhile: its result is there.")
        elif why := _no_message(one.task_id, one.queue) or unknown(one.task_name, cluster) or _unfit(one):
            found[one.pk] = why
    hidden = [one.pk for one in candidates if not one.body and one.pk not in found]
    if hidden:
        found |= {letter.pk: why for letter in DeadLetter.objects.filter(pk__in=hidden) if (why := _unreadable(letter))}
    return found


def _unreadable(letter: DeadLetter) -> str:
    try:
        arguments = Envelope.of(letter).arguments()
    except NoEnvelope as problem:
        return str(problem)
    return misfit(letter.task_name, arguments) if arguments else ""


def _unfit(one: Candidate) -> str:
    if one.content_type == "application/json" and one.content_encoding == "utf-8":
        # How many and which names is all that is asked: no need to make dates of what is marked as one. A third of the time.
        try:
            args, kwargs, _embed = json.loads(one.body)
            return misfit(one.task_name, Arguments(args=args, kwargs=kwargs, embed={}))
        except (TypeError, ValueError, RecursionError):
            return ""
    arguments = Envelope.decode(one.body, one.content_type, one.content_encoding) if one.body else None
    return misfit(one.task_name, arguments) if arguments else ""


def succeeded(task_ids: Sequence[str]) -> set[str]:
    """Those whose result is a success."""
    backend: Any = current_app.backend
    if not hasattr(backend, "ready"):
        return set()
    return {task_id for task_id, (status, _at) in backend.ready(task_ids).items() if status == states.SUCCESS}


def misfit(task_name: str, arguments: Arguments) -> str:
    """Why the arguments do not fit the task's signature; empty when they do, or when this process does not know the task."""
    task: Any = current_app.tasks.get(task_name)
    if task is None or not getattr(task, "typing", True):
        return ""
    try:
        task.__header__(*arguments.args, **arguments.kwargs)
    except TypeError as problem:
        return _("The arguments do not fit the task: %s.") % problem
    return ""


def unknown(task_name: str, cluster: Cluster) -> str:
    """Why no worker could run the task; empty when one can, when nobody answered, or when the code is here: a worker may be slow to answer."""
    if not cluster.asked or _known(task_name, cluster) or task_name in current_app.tasks:
        return ""
    if not task_name:
        return _("It names no task, so no worker can run it.")
    return _("No worker knows the task %s. Deploy it first.") % task_name


def _known(task_name: str, cluster: Cluster) -> bool:
    return task_name in cluster.tasks or task_name.startswith("celery.")


def summed_up(checks: Sequence[Preflight]) -> dict[Verdict, int]:
    """How many of each verdict."""
    return {verdict: sum(check.verdict == verdict for check in checks) for verdict in Verdict}


def _read(check: Preflight) -> Arguments | None:
    check.frees = sets_free(check.letter)
    try:
        return Envelope.of(check.letter).arguments()
    except NoEnvelope as problem:
        check.findings.append((Verdict.BLOCKED, str(problem)))
        return None


def _look_at_message(check: Preflight, arguments: Arguments | None, cluster: Cluster) -> None:
    letter, say = check.letter, check.findings.append
    if letter.state != State.OPEN:
        say((Verdict.BLOCKED, not_open(letter)))
    if why := _no_message(letter.task_id, letter.queue):
        say((Verdict.BLOCKED, why))
        return
    _look_at_workers(check, cluster)
    if arguments is None:
        if not check.findings:
            say((Verdict.LOOK, _("Its body cannot be read here, so that its arguments cannot be checked.")))
    elif letter.task_name not in current_app.tasks:
        say((Verdict.LOOK, _("This process does not know the task, so that its arguments cannot be checked.")))
    elif why := misfit(letter.task_name, arguments):
        say((Verdict.BLOCKED, why))


def _look_at_workers(check: Preflight, cluster: Cluster) -> None:
    letter, say = check.letter, check.findings.append
    if why := unknown(letter.task_name, cluster):
        say((Verdict.BLOCKED, why))
    elif not cluster.asked:
        say((Verdict.LOOK, _("No worker answered: what is sent waits until one comes.")))
    elif not _known(letter.task_name, cluster):
        say((Verdict.LOOK, _("No worker that answered knows the task %s.") % letter.task_name))
    elif letter.queue not in cluster.queues:
        say((Verdict.LOOK, _("No worker consumes the queue %s: it would wait there.") % letter.queue))


def _no_message(task_id: str, queue: str) -> str:
    if task_id.startswith(NO_TASK_ID):
        return _("This is no task message: nothing would run. Discard it, or send what was meant.")
    return "" if queue else _("It is not known which queue the message came from.")


def _look_at_age(check: Preflight) -> None:
    letter, age = check.letter, timezone.now() - check.letter.died_at
    if letter.cause == Cause.POISON:
        check.findings.append((Verdict.LOOK, _("Worker after worker went down with it. Find out why first.")))
    if age > OLD:
        old = ngettext("It died %d day ago: is it still wanted?", "It died %d days ago: is it still wanted?", age.days)
        check.findings.append((Verdict.LOOK, old % age.days))
