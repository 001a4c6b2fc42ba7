"""The table of a run's steps: one page of them, in the chosen state."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from celery import current_app
from django_celery_results.models import TaskResult
from kombu.exceptions import DecodeError

from deadletters.envelope import clean
from deadletters.models import DeadLetter
from deadletters.secrets.reprs import masked_reprs
from pipelines.graph import Leaf, Node, leaves
from pipelines.states import State
from pipelines.timeline import Span
from pipelines.words import Chip, chip, duration

# Rows of one page.
STEPS = 100
# Characters of arguments that a row shows.
LITTLE = 120


@dataclass(frozen=True, kw_only=True)
class StepRow:
    """A line of the table."""

    task_id: str
    label: str
    chip: Chip
    arguments: str
    waited: str
    took: str
    worker: str
    result: int | None
    letter: int | None
    can_replay: bool


def step_rows(
    tree: Node, states: Mapping[str, State], spans: Mapping[str, Span], *, chosen: State | None, page: int
) -> list[StepRow]:
    """Page number `page` (from 0) of the steps in the chosen state, or of all."""
    in_state = (leaf for leaf in leaves(tree) if chosen is None or states[leaf["task_id"]] is chosen)
    shown = list(islice(in_state, page * STEPS, (page + 1) * STEPS))
    ids = [leaf["task_id"] for leaf in shown]
    results = TaskResult.objects.filter(task_id__in=ids).defer("result", "traceback", "meta")
    rows = {row.task_id: row for row in results}
    letters = dict(DeadLetter.objects.filter(task_id__in=ids).order_by().values_list("task_id", "pk"))
    return [_row(leaf, states[leaf["task_id"]], spans[leaf["task_id"]], rows, letters) for leaf in shown]


def _row(leaf: Leaf, state: State, span: Span, rows: Mapping[str, Any], letters: Mapping[str, int]) -> StepRow:
    task_id = leaf["task_id"]
    row = rows.get(task_id)
    if state in (State.BLOCKED, State.WAITING, State.UNSENT):
        row = None  # what Celery wrote there is the culprit's
    return StepRow(
        task_id=task_id,
        label=leaf["label"],
        chip=chip(state),
        arguments=_arguments(row),
        waited=_between(span.ready, span.started),
        took=_between(span.started, span.ended) if state is not State.RETRYING else "",
        worker=(row.worker or "") if row else "",
        result=row.pk if row else None,
        letter=letters.get(task_id),
        can_replay=state is State.DEAD and task_id in letters,
    )


def _between(begin: datetime | None, end: datetime | None) -> str:
    return duration(max(end - begin, timedelta(0))) if begin and end else ""


def _arguments(row: Any) -> str:
    if row is None or not row.task_args:
        return ""
    try:
        text = str(current_app.backend.decode_content(row, row.task_args))
    except (DecodeError, ValueError):
        text = row.task_args
    text, _kwargs = masked_reprs(row.task_name or "", clean(text), "")
    return text if len(text) <= LITTLE else f"{text[:LITTLE]}…"
