"""What the page of one run shows, gathered in a constant number of queries."""

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from celery import current_app
from django.utils import timezone
from django.utils.functional import cached_property
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django_celery_results.models import TaskResult
from kombu.exceptions import DecodeError

from deadletters.models import DeadLetter
from deadletters.models import State as LetterState
from deadletters.redact import redactor
from deadletters.reprs import masked_reprs
from pipelines import runs
from pipelines.graph import Leaf, leaves
from pipelines.layout import Box, Line, Row, outline, picture, segments
from pipelines.models import Run
from pipelines.runs import Progress
from pipelines.states import ACTIVE, LABELS, Overall, State

# Rows of the steps' table; a state narrows it.
STEPS = 100
# As many are shown without being asked for.
FEW = 12
FAILED = 25
PREVIOUS = 8
# Characters of a name that fit beside the glyph in a box of the graph.
BOX_LETTERS = 20
# Characters of a result or of arguments that a page shows.
MUCH, LITTLE = 64_000, 120
GLYPHS = {
    State.SUCCEEDED: "✓",
    State.RUNNING: "▶",
    State.RETRYING: "↻",
    State.REPLAYING: "↻",
    State.DEAD: "✕",
    State.DISCARDED: "–",
    State.BLOCKED: "!",
    State.CANCELLED: "–",
    State.WAITING: "○",
}


@dataclass(frozen=True, kw_only=True)
class Chip:
    """A state with its word, and how many are in it."""

    state: str
    label: str
    number: int = 1


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A box of the graph with its words."""

    box: Box
    title: str
    note: str
    glyph: str
    letter: int | None


@dataclass(frozen=True, kw_only=True)
class StepRow:
    """A line of the steps' table."""

    task_id: str
    label: str
    chip: Chip
    arguments: str
    started: datetime | None
    took: str
    worker: str


class RunPage:
    """Everything the page shows; each part is read when the template asks for it."""

    def __init__(self, run: Run, state: str = "") -> None:
        self.run = run
        self.progress: Progress = runs.progress(run)
        self.chosen = State(state) if state in set(State) else None

    @property
    def chip(self) -> Chip:
        """The run's state."""
        return chip(self.progress.overall)

    @property
    def counts(self) -> list[Chip]:
        """How many steps are in each state that occurs."""
        counts = self.progress.counts
        return [chip(state, counts[state]) for state in State if counts[state]]

    @property
    def bar(self) -> list[tuple[Chip, float, float]]:
        """(state, x, width) of the progress bar's parts, 0 to 1000."""
        return [(chip(state, number), x, width) for state, number, x, width in segments(self.progress.counts, 0, 1000)]

    @property
    def elapsed(self) -> str:
        """How long it took, or takes so far."""
        return duration((self.progress.ended_at or timezone.now()) - self.run.created_at)

    @property
    def every(self) -> int:
        """Milliseconds between two looks; 0 when nothing can change any more. A dead step may be replayed any time."""
        if self.progress.moving:
            return 2_000
        return 5_000 if self.progress.overall is Overall.FAILED else 0

    @property
    def can_cancel(self) -> bool:
        """Whether something of it still waits for its turn."""
        return any(self.progress.counts[state] for state in runs.WAITS) and not self.run.cancelled_at

    @cached_property
    def letters(self) -> list[DeadLetter]:
        """The dead letters of this run that somebody must look at, the oldest first."""
        letters = DeadLetter.objects.filter(task_id__in=self.run.steps.values("task_id"))
        shown = letters.exclude(state=LetterState.RESOLVED).order_by("died_at", "id")
        return list(shown.only("pk", "task_id", "task_name", "state", "exception_type", "exception_message", "died_at", "cause")[:FAILED])  # fmt: skip

    @cached_property
    def graph(self) -> dict[str, object]:
        """The picture, with words in its boxes."""
        drawn = picture(self.run.tree, self.progress.states)
        letters = {letter.task_id: letter.pk for letter in self.letters}
        # All boxes name their app, or none does.
        bare = any(len(box.title) > BOX_LETTERS for box in drawn.boxes)
        boxes = [self._drawn(box, letters, bare=bare) for box in drawn.boxes]
        return {"boxes": boxes, "lines": [(line, _line_class(line)) for line in drawn.lines], "width": drawn.width, "height": drawn.height}  # fmt: skip

    @cached_property
    def outline(self) -> list[tuple[Row, Chip, str]]:
        """The graph as rows: (row, its state, a note)."""
        return [(row, chip(row.state), _stack_note(row.counts) if row.total > 1 else "") for row in outline(self.run.tree, self.progress.states)]  # fmt: skip

    @cached_property
    def steps(self) -> list[StepRow]:
        """The first steps in the chosen state, or of all."""
        shown = [leaf for leaf in leaves(self.run.tree) if self._shows(leaf["task_id"])][:STEPS]
        ids = [leaf["task_id"] for leaf in shown]
        rows = {
            row.task_id: row for row in TaskResult.objects.filter(task_id__in=ids).defer("result", "traceback", "meta")
        }
        return [self._step(leaf, rows.get(leaf["task_id"])) for leaf in shown]

    @property
    def steps_open(self) -> bool:
        """Whether the table of the steps is unfolded."""
        return self.chosen is not None or self.progress.total <= FEW

    @property
    def chosen_chip(self) -> Chip:
        """The state that narrows the steps' table."""
        assert self.chosen is not None
        return chip(self.chosen, self.progress.counts[self.chosen])

    @property
    def hidden(self) -> int:
        """How many steps the table leaves out."""
        counts = self.progress.counts
        return max((counts[self.chosen] if self.chosen else counts.total()) - STEPS, 0)

    @property
    def result(self) -> str:
        """What it returned, as JSON; "" unless it succeeded."""
        if self.progress.overall is not Overall.SUCCEEDED:
            return ""
        return json.dumps(redactor().value(runs.result(self.run)), indent=2, ensure_ascii=False, default=str)[:MUCH]

    @property
    def parameters(self) -> str:
        """What it was started with, as JSON."""
        return json.dumps(redactor().value(self.run.parameters), indent=2, ensure_ascii=False)[:MUCH]

    @cached_property
    def previous(self) -> list[tuple[Run, Chip, str]]:
        """The runs of this pipeline before this one: (run, its state, how long it took)."""
        before = Run.objects.filter(pipeline=self.run.pipeline, created_at__lt=self.run.created_at).defer("tree")
        found = list(before[:PREVIOUS])
        known = runs.overview(found)
        return [(run, chip(known[run.pk].overall), took(run, known[run.pk])) for run in found]

    def _shows(self, task_id: str) -> bool:
        return self.chosen is None or self.progress.states[task_id] is self.chosen

    def _drawn(self, box: Box, letters: dict[str, int], *, bare: bool) -> Drawn:
        note = _stack_note(box.counts) if box.stacked else self._note(box)
        title = box.title.rsplit(".", 1)[-1] if bare else box.title
        title = title if len(title) <= BOX_LETTERS else f"{title[: BOX_LETTERS - 1]}…"
        return Drawn(box=box, title=title, note=note, glyph=GLYPHS[box.state], letter=letters.get(box.key))

    def _note(self, box: Box) -> str:
        label = str(LABELS[box.state])
        started, done = self.progress.times.get(box.key, (None, None))
        if box.state is State.RUNNING and started:
            return f"{label} · {duration(timezone.now() - started)}"
        if box.state in (State.SUCCEEDED, State.DEAD) and started and done:
            return f"{label} · {duration(done - started)}"
        return label

    def _step(self, leaf: Leaf, row: Any) -> StepRow:
        state = self.progress.states[leaf["task_id"]]
        if state in (State.BLOCKED, State.WAITING):
            row = None  # what Celery wrote there is the culprit's
        ended = row is not None and row.date_started is not None and state not in ACTIVE
        return StepRow(
            task_id=leaf["task_id"],
            label=leaf["label"],
            chip=chip(state),
            arguments=_arguments(row),
            started=row.date_started if row else None,
            took=duration(row.date_done - row.date_started) if row and row.date_started and ended else "",
            worker=(row.worker or "") if row else "",
        )


def chip(state: State | Overall, number: int = 1) -> Chip:
    """A state with its word."""
    return Chip(state=state.value, label=str(LABELS[state]), number=number)


def took(run: Run, progress: Progress) -> str:
    """How long a run took, or takes so far; "" when it never ran."""
    end = progress.ended_at or (timezone.now() if progress.moving else None)
    return duration(end - run.created_at) if end else ""


def duration(time: timedelta) -> str:
    """A length of time in at most two units: 0.4 s, 26 s, 3 min 5 s, 2 h 10 min."""
    seconds = max(time.total_seconds(), 0)
    if seconds < 10:
        return _("%(number).1f s") % {"number": seconds}
    if seconds < 60:
        return _("%(number)d s") % {"number": seconds}
    if seconds < 3600:
        return _("%(minutes)d min %(seconds)d s") % {"minutes": seconds // 60, "seconds": seconds % 60}
    return _("%(hours)d h %(minutes)d min") % {"hours": seconds // 3600, "minutes": seconds % 3600 // 60}


def _stack_note(counts: dict[State, int]) -> str:
    done = f"{counts.get(State.SUCCEEDED, 0)} / {sum(counts.values())}"
    dead = counts.get(State.DEAD, 0)
    return f"{done} · {ngettext('%d dead', '%d dead', dead) % dead}" if dead else done


def _line_class(line: Line) -> str:
    if line.state in ACTIVE:
        return "live"
    return "" if line.state in (State.WAITING, State.BLOCKED, State.CANCELLED) else "done"


def _arguments(row: Any) -> str:
    if row is None or not row.task_args:
        return ""
    try:
        text = str(current_app.backend.decode_content(row, row.task_args))
    except (DecodeError, ValueError):
        text = row.task_args
    text, _kwargs = masked_reprs(row.task_name or "", text, "")
    return text if len(text) <= LITTLE else f"{text[:LITTLE]}…"
