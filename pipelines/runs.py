"""Start and follow a run. With cancel.py the only writer of Run and Step; what a run's tasks do is read off their results and letters."""

import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from celery import current_app
from celery.canvas import Signature
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Count, Max, OuterRef, QuerySet, Subquery
from django.utils import timezone
from django.utils.translation import gettext as _
from django_celery_results.backends.database import DatabaseBackend
from django_celery_results.models import TaskResult

from deadletters.models import DeadLetter
from pipelines import graph, registry
from pipelines.models import Run, Step
from pipelines.states import Facts, Flow, Overall, State, flow_of, overall, percent, state_of, states_of

# Runs that a message asks for are named by ids under this one; it must never change.
_NAMESPACE = uuid.UUID("0b7c52c6-6b0e-4a55-9a43-8a1d1c4e8d0f")
# (Celery's status, the letter's state) of a step; None where it has none.
Row = tuple[str | None, str | None]
# Celery's states after which nothing happens by itself.
ENDED = ("SUCCESS", "FAILURE", "REVOKED")


class NotSent(Exception):
    """The run is recorded, but the broker did not take it. `run` says so too, and does not look alive."""

    def __init__(self, run: Run) -> None:
        super().__init__(run)
        self.run = run

    def __str__(self) -> str:
        return _("Run %(run)s could not be sent: %(problem)s. Start it again when the broker answers.") % {
            "run": self.run,
            "problem": self.run.problem,
        }


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a run stands. `states` is {task id: state} in order, empty in an overview of many runs."""

    overall: Overall
    counts: Counter[State]
    # When the last of its tasks ended; None while something goes on, or when nothing ever ran.
    ended_at: datetime | None = None
    states: Mapping[str, State] = field(default_factory=dict)
    # {task id: (started, done)}
    times: Mapping[str, tuple[datetime | None, datetime]] = field(default_factory=dict)
    # Those that have a dead letter, in whatever state.
    died: Collection[str] = ()

    @property
    def total(self) -> int:
        """How many steps there are."""
        return self.counts.total()

    @property
    def succeeded(self) -> int:
        """How many steps have succeeded."""
        return self.counts[State.SUCCEEDED]

    @property
    def dead(self) -> int:
        """How many steps wait for a person."""
        return self.counts[State.DEAD]

    @property
    def percent(self) -> int:
        """Whole percent of the steps that have succeeded."""
        return percent(self.counts)

    @property
    def moving(self) -> bool:
        """Whether something goes on without a person."""
        return self.overall in (Overall.WAITING, Overall.RUNNING)


def start(
    name: str,
    parameters: Mapping[str, object],
    *,
    by: User | None = None,
    origin: str = Run.Origin.PYTHON,
    run_id: uuid.UUID | None = None,
) -> Run:
    """Record a run (under `run_id`, or an id of its own) and send it when the transaction commits.

    Raises:
        UnknownPipeline, BadParameter: see the registry.
        NotACanvas: the pipeline returned something that cannot run.
        NotSent: the run is recorded, but the broker did not take it (of an outer transaction: at its commit).
    """
    pipeline = registry.get(name)
    values = pipeline.validate(parameters)
    canvas, tree = graph.plan(pipeline.build(values))
    with transaction.atomic():
        run = Run.objects.create(
            id=run_id or uuid.uuid4(),
            pipeline=name,
            parameters=values,
            tree=tree,
            result_id=graph.last_id(tree),
            origin=origin,
            started_by=by,
        )
        Step.objects.bulk_create(
            (
                Step(run=run, position=position, task_id=leaf["task_id"], task_name=leaf["task"])
                for position, leaf in enumerate(graph.leaves(tree))
            ),
            batch_size=1_000,
        )
        transaction.on_commit(partial(_send, run, canvas))
    return run


def _send(run: Run, canvas: Signature[Any]) -> None:
    try:
        # A run of one task is no workflow that its worker could tell: the header asks for a STARTED row.
        options: dict[str, Any] = {"headers": {"run": str(run.pk)}} if run.tree["kind"] == "task" else {}
        canvas.apply_async(**options)
    except Exception as problem:
        run.problem = str(problem).strip() or type(problem).__name__
        run.save(update_fields=["problem"])
        raise NotSent(run) from problem
    # Meanwhile the sweep may have given it up: it looks at when the run was recorded, which a long transaction did long ago.
    Run.objects.filter(pk=run.pk).update(sent_at=timezone.now(), problem="")


def start_once(name: str, parameters: Mapping[str, object], *, message: str, origin: str) -> Run:
    """The run that this message asks for: its copies and redeliveries find the run that the first one sent.

    Raises:
        see `start`.
    """
    run_id = uuid.uuid5(_NAMESPACE, message)
    before = Run.objects.filter(pk=run_id).first()
    if before is None:
        return start(name, parameters, origin=origin, run_id=run_id)
    return before if before.sent_at else start(name, parameters, origin=origin)


def sweep(older_than: timedelta = timedelta(minutes=5)) -> int:
    """Say of runs that were recorded and never sent that they will not move; how many there were."""
    left = Run.objects.filter(sent_at=None, problem="", created_at__lt=timezone.now() - older_than)
    return left.update(problem=_("whoever started it ended before all of it was sent"))


def progress(run: Run) -> Progress:
    """Where a run stands, in two queries, also for 10,000 steps."""
    return _exact([run])[run.pk]


def overview(runs: Iterable[Run]) -> dict[uuid.UUID, Progress]:
    """Where each run stands, for a list: counted in the database, in four queries for any number of runs and steps."""
    runs = list(runs)
    if _elsewhere():
        return _exact(runs)
    counted: dict[uuid.UUID, Counter[Row]] = defaultdict(Counter)
    ended: dict[uuid.UUID, datetime] = {}
    result = TaskResult.objects.filter(task_id=OuterRef("task_id"))
    letter = DeadLetter.objects.filter(task_id=OuterRef("task_id"))
    rows = (
        Step.objects.filter(run__in=[run.pk for run in runs])
        .annotate(
            status=Subquery(result.values("status")[:1]),
            done=Subquery(result.values("date_done")[:1]),
            letter=Subquery(letter.values("state")[:1]),
        )
        .order_by()
        .values_list("run_id", "status", "letter")
        .annotate(Count("pk"), Max("done"))
    )
    for run_id, status, state, number, done in rows:
        counted[run_id][status, state] += number
        if done:
            ended[run_id] = max(done, ended.get(run_id, done))
    unclear = [run for run in runs if _needs_its_tree(run, counted[run.pk])]
    exact = _exact(unclear) if unclear else {}
    return {run.pk: exact.get(run.pk) or _counted(run, counted[run.pk], ended.get(run.pk)) for run in runs}


def follow(run: Run, *, every: float = 0.5, timeout: float | None = None) -> Iterator[Progress]:
    """Progress, each `every` seconds, until nothing moves any more without a person; the last one is the outcome.

    Raises:
        TimeoutError: it still moves after `timeout` seconds.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    while True:
        current = progress(run)
        yield current
        if not current.moving:
            return
        if deadline is not None and time.monotonic() + every > deadline:
            raise TimeoutError
        time.sleep(every)


def result(run: Run) -> object:
    """What a run that succeeded returned: one value, or a list where its canvas ends in a group."""
    ids = [leaf["task_id"] for leaf in graph.ends(run.tree)]
    backend: Any = current_app.backend
    return graph.values(run.tree, backend.returned(ids))


def letters(run: Run) -> QuerySet[DeadLetter]:
    """The dead letters of a run. Those of what a step replaced itself with are no steps; they name the run's first step as their root."""
    steps = run.steps.values("task_id")
    own = DeadLetter.objects.filter(task_id__in=steps)
    # `root_id <> ''` lets the partial index answer; two look-ups joined by OR would read the whole table.
    below = DeadLetter.objects.exclude(root_id="").filter(root_id__in=steps)
    return DeadLetter.objects.filter(pk__in=own.order_by().values("pk").union(below.order_by().values("pk")))


def _needs_its_tree(run: Run, counted: Mapping[Row, int]) -> bool:
    """Whether a step without a result may wait for ever: only the tree tells a blocked one from one in a queue."""
    waits = any(letter is None and status in (None, "PENDING") for status, letter in counted)
    died = flow_of(counted) is not Flow.DONE or any(status == "FAILURE" for status, _letter in counted)
    return waits and died and not _stopped(run)


def _counted(run: Run, counted: Mapping[Row, int], last: datetime | None) -> Progress:
    before = flow_of(counted)
    counts: Counter[State] = Counter()
    for (status, letter), number in counted.items():
        counts[state_of(status, letter, before, stopped=_stopped(run))] += number
    return _progress(run, counts, last)


def _progress(run: Run, counts: Counter[State], last: datetime | None, **detail: Any) -> Progress:
    state = overall(counts, cancelled=run.cancelled_at is not None, problem=bool(run.problem))
    moving = state in (Overall.WAITING, Overall.RUNNING)
    return Progress(overall=state, counts=counts, ended_at=None if moving else last, **detail)


def _stopped(run: Run) -> State | None:
    """The state of steps that have not begun and never will."""
    if run.cancelled_at is not None:
        return State.CANCELLED
    return State.UNSENT if run.problem else None


def _exact(runs: list[Run]) -> dict[uuid.UUID, Progress]:
    steps = Step.objects.filter(run__in=runs).order_by().values("task_id")
    found = _found(steps)
    letters = dict(DeadLetter.objects.filter(task_id__in=steps).order_by().values_list("task_id", "state"))
    results = {task_id: status for task_id, (status, _started, _done) in found.items()}
    exact = {}
    for run in runs:
        states = states_of(run.tree, Facts(results=results, letters=letters, stopped=_stopped(run)))
        times = {task_id: found[task_id][1:] for task_id in states if task_id in found}
        last = max((done for _started, done in times.values()), default=None)
        died = states.keys() & letters.keys()
        exact[run.pk] = _progress(run, Counter(states.values()), last, states=states, times=times, died=died)
    return exact


def _found(steps: QuerySet[Step, Any]) -> dict[str, tuple[str, datetime | None, datetime]]:
    """{task id: (Celery's status, started, done)}. Redis knows no beginnings."""
    if backend := _elsewhere():
        known = backend.known([step["task_id"] for step in steps])
        return {task_id: (status, None, done) for task_id, (status, done) in known.items()}
    rows = TaskResult.objects.filter(task_id__in=steps).order_by()
    return {row[0]: row[1:] for row in rows.values_list("task_id", "status", "date_started", "date_done")}


def _elsewhere() -> Any:
    """The result backend, if results are not in this database."""
    backend: Any = current_app.backend
    return None if isinstance(backend, DatabaseBackend) else backend
