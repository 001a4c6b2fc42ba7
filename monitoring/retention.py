"""What is deleted by age and by number, and in which order."""

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import timedelta

from django.conf import settings

from deadletters.audit import prune_acts
from deadletters.models import State
from deadletters.prune import Retention, prune_errors, prune_letters
from pipelines.prune import prune_chords, prune_results, prune_runs
from pipelines.storage import prune_files
from schedules.prune import prune_occurrences

logger = logging.getLogger(__name__)

# Told after each batch: what, and how many of it went so far.
Tell = Callable[[str, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """How many rows of each kind, and intermediate files, were deleted (or would be)."""

    # Resolved and discarded ones.
    dead_letters: int
    # Never, unless DEADLETTERS_RETENTION_DAYS or _COUNT names `open`.
    open_dead_letters: int
    # Those that no letter is left of.
    errors: int
    runs: int
    chords: int
    results: int
    files: int
    occurrences: int
    acts: int

    def as_dict(self) -> dict[str, int]:
        """The same, as JSON likes it."""
        return asdict(self)


def kept(days: int | None = None) -> dict[State, Retention]:
    """How letters are kept, by state. `days` goes before the settings for finished letters; open ones never go by it."""
    ages, numbers = settings.DEADLETTERS_RETENTION_DAYS, settings.DEADLETTERS_RETENTION_COUNT
    finished = {
        state.value: days or ages.get(state, settings.RETENTION_DAYS) for state in (State.RESOLVED, State.DISCARDED)
    }
    ages = {**ages, **finished}
    return {
        state: Retention(age=timedelta(days=ages[state]) if state in ages else None, number=numbers.get(state))
        for state in (State.RESOLVED, State.DISCARDED, State.OPEN)
    }


def prune(days: int | None = None, *, dry_run: bool = False, tell: Tell = lambda _what, _gone: None) -> Pruned:
    """Delete what is older than `days` (the settings' ages without) and not needed any more: letters, runs, chords, results, files, occurrences.

    Letters go first, results and their files last: what a letter, run or chord held on to is then free.
    """
    older_than = timedelta(days=days or settings.RETENTION_DAYS)
    letters = prune_letters(kept(days), dry_run=dry_run, tell=lambda gone: tell("dead letters", gone))
    pruned = Pruned(
        open_dead_letters=letters.pop(State.OPEN, 0),
        dead_letters=sum(letters.values()),
        errors=prune_errors(older_than, dry_run=dry_run),
        runs=prune_runs(older_than, dry_run=dry_run, tell=lambda gone: tell("runs", gone)),
        chords=prune_chords(older_than, dry_run=dry_run, tell=lambda gone: tell("chords", gone)),
        results=prune_results(older_than, dry_run=dry_run, tell=lambda gone: tell("results", gone)),
        files=prune_files(older_than, dry_run=dry_run),
        occurrences=prune_occurrences(older_than, dry_run=dry_run),
        # Longer than the letters, whatever was asked for them: who did what is asked late.
        acts=prune_acts(timedelta(days=settings.AUDIT_RETENTION_DAYS), dry_run=dry_run),
    )
    logger.info("pruned", extra={**pruned.as_dict(), "days": older_than.days, "dry_run": dry_run})
    if pruned.open_dead_letters:
        logger.warning("pruned.open_dead_letters", extra={"number": pruned.open_dead_letters, "dry_run": dry_run})
    return pruned
