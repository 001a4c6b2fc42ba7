"""What the page of one run shows, gathered in a constant number of queries."""

from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property

from django.utils import timezone
from django.utils.formats import number_format
from django.utils.translation import ngettext

from deadletters.audit import acts_of
from deadletters.models import Act, DeadLetter
from deadletters.models import State as LetterState
from deadletters.secrets.redact import redactor
from pipelines import runs
from pipelines.cancel import WAITS
from pipelines.estimate import Estimate, estimate
from pipelines.layout import Box, Line, Row, outline, picture, segments
from pipelines.models import Run
from pipelines.runs import Progress
from pipelines.states import ACTIVE, LABELS, TO_COME, Overall, State, loudest
from pipelines.step_rows import STEPS, StepRow, step_rows
from pipelines.timeline import Lane, Span, Timeline, spans, timeline
from pipelines.words import Chip, as_json, chip, duration, took

# As many steps are shown without being asked for.
FEW = 12
FAILED = 25
PREVIOUS = 8
# Characters of a name that fit beside the glyph in a box of the graph.
BOX_LETTERS = 20
# Characters of a result or of parameters that a page shows.
MUCH = 64_000
VIEWS = ("graph", "timeline")
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
    State.UNSENT: "·",
}


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A box of the graph with its words."""

    box: Box
    title: str
    note: str
    glyph: str
    letter: int | None

    @property
    def dead(self) -> int:
        """How many steps of it can be replayed."""
        return self.box.counts[State.DEAD]


class RunPage:
    """Everything the page shows; each part is read when the template asks for it."""

    def __init__(self, run: Run, *, state: str = "", view: str = "", part: str = "") -> None:
        self.run = run
        self.now = timezone.now()
        self.progress: Progress = runs.progress(run)
        self.chosen = State(state) if state in set(State) else None
        self.view = view if view in VIEWS else VIEWS[0]
        # Page of the steps' table, from 0.
        self.part = int(part) if part.isdecimal() and len(part) < 6 else 0

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
    def elapsed(self) -> timedelta:
        """How long it took, or takes so far."""
        return (self.progress.ended_at or self.now) - self.run.created_at

    @property
    def elapsed_words(self) -> str:
        """The same in words; "" when nothing of it ever ran."""
        return took(self.run, self.progress)

    @property
    def left(self) -> Estimate | None:
        """How long it will take still, as far as that can be known."""
        if not self.progress.moving:
            return None
        earlier = [(p.total, (p.ended_at or run.created_at) - run.created_at) for run, p in self._previous if p.overall is Overall.SUCCEEDED]  # fmt: skip
        return estimate(self.progress.counts, self.elapsed, earlier, disturbed=bool(self.progress.died))

    @property
    def every(self) -> int:
        """Milliseconds between two looks; 0 when nothing can change any more. A dead step may be replayed any time."""
        if self.progress.moving:
            return 2_000 + self.progress.total // 4  # a look at 10,000 steps costs as much as at 40 runs of ten
        return 5_000 if self.progress.overall is Overall.FAILED else 0

    @property
    def can_cancel(self) -> bool:
        """Whether something of it still waits for its turn."""
        return any(self.progress.counts[state] for state in WAITS) and not (self.run.cancelled_at or self.run.problem)

    @cached_property
    def letters(self) -> list[DeadLetter]:
        """The dead letters of this run that somebody must look at, the oldest first."""
        shown = runs.letters(self.run).exclude(state=LetterState.RESOLVED).order_by("died_at", "id")
        return list(shown.only("pk", "task_id", "task_name", "state", "exception_type", "exception_message", "died_at", "cause")[:FAILED])  # fmt: skip

    @cached_property
    def acts(self) -> list[Act]:
        """What people did with it and its dead letters, the newest first."""
        return acts_of(DeadLetter.objects.filter(task_id__in=self.run.steps.values("task_id")), root=str(self.run.pk))

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
    def spans(self) -> dict[str, Span]:
        """When each step waited and ran."""
        progress = self.progress
        return spans(self.run.tree, progress.states, progress.times, start=self.run.created_at, now=self.now, replayed=progress.died)  # fmt: skip

    @cached_property
    def timeline(self) -> Timeline:
        """The same as bars."""
        return timeline(self.run.tree, self.progress.states, self.spans, start=self.run.created_at, now=self.now)

    @property
    def ticks(self) -> list[str]:
        """The marks of the timeline's axis."""
        return [duration(tick) if tick else "0" for tick in self.timeline.ticks]

    @property
    def lanes(self) -> list[tuple[Lane, Chip, str, str, str]]:
        """(lane, its state, a stack's note, waited, ran) of the timeline."""
        return [
            (lane, chip(loudest(lane.counts)), _stack_note(lane.counts) if lane.counts.total() > 1 else "", _words(lane.waited), _words(lane.ran))
            for lane in self.timeline.lanes
        ]  # fmt: skip

    @cached_property
    def steps(self) -> list[StepRow]:
        """One page of the steps in the chosen state, or of all."""
        return step_rows(self.run.tree, self.progress.states, self.spans, chosen=self.chosen, page=self.part)

    @property
    def steps_open(self) -> bool:
        """Whether the table of the steps is unfolded."""
        return self.chosen is not None or bool(self.part) or self.progress.total <= FEW

    @property
    def chosen_chip(self) -> Chip:
        """The state that narrows the steps' table."""
        assert self.chosen is not None
        return chip(self.chosen, self.progress.counts[self.chosen])

    @property
    def parts(self) -> dict[str, int | None]:
        """The steps' table: which ones of how many it shows, and the pages before and behind."""
        counts = self.progress.counts
        total, first = counts[self.chosen] if self.chosen else counts.total(), self.part * STEPS
        last = min(first + STEPS, total)
        return {"first": first + 1, "last": last, "total": total, "before": self.part - 1 if self.part else None, "behind": self.part + 1 if last < total else None}  # fmt: skip

    @property
    def result(self) -> str:
        """What it returned, as JSON; "" unless it succeeded."""
        if self.progress.overall is not Overall.SUCCEEDED:
            return ""
        return as_json(redactor().value(runs.result(self.run)))[:MUCH]

    @property
    def parameters(self) -> str:
        """What it was started with, as JSON."""
        return as_json(redactor().value(self.run.parameters))[:MUCH]

    @property
    def previous(self) -> list[tuple[Run, Chip, str, float]]:
        """The runs of this pipeline before this one: (run, its state, how long it took, that as a share of the longest)."""
        lengths = [((p.ended_at or self.now) - run.created_at).total_seconds() for run, p in self._previous]
        longest = max([*lengths, 0.001])
        return [(run, chip(p.overall), took(run, p), round(length / longest * 1000, 1)) for (run, p), length in zip(self._previous, lengths, strict=True)]  # fmt: skip

    @cached_property
    def _previous(self) -> list[tuple[Run, Progress]]:
        before = Run.objects.filter(pipeline=self.run.pipeline, created_at__lt=self.run.created_at).defer("tree")
        found = list(before[:PREVIOUS])
        known = runs.overview(found)
        return [(run, known[run.pk]) for run in found]

    def _drawn(self, box: Box, letters: dict[str, int], *, bare: bool) -> Drawn:
        note = _stack_note(box.counts) if box.stacked else self._note(box)
        title = box.title.rsplit(".", 1)[-1] if bare else box.title
        title = title if len(title) <= BOX_LETTERS else f"{title[: BOX_LETTERS - 1]}…"
        return Drawn(box=box, title=title, note=note, glyph=GLYPHS[box.state], letter=letters.get(box.key))

    def _note(self, box: Box) -> str:
        label = str(LABELS[box.state])
        started, done = self.progress.times.get(box.key, (None, None))
        if box.state is State.RUNNING and started:
            return f"{label} · {duration(self.now - started)}"
        if box.state in (State.SUCCEEDED, State.DEAD) and started and done:
            return f"{label} · {duration(done - started)}"
        return label


def _words(time: timedelta | None) -> str:
    return "" if time is None else duration(time)


def _stack_note(counts: dict[State, int]) -> str:
    done, total = (
        number_format(number, force_grouping=True) for number in (counts.get(State.SUCCEEDED, 0), sum(counts.values()))
    )
    dead = counts.get(State.DEAD, 0)
    return f"{done} / {total} · {ngettext('%d dead', '%d dead', dead) % dead}" if dead else f"{done} / {total}"


def _line_class(line: Line) -> str:
    if line.state in ACTIVE:
        return "live"
    return "" if line.state in (*TO_COME, State.BLOCKED, State.CANCELLED) else "done"
