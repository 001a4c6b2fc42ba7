"""What is deleted by age, and in which order."""

import logging
from dataclasses import asdict, dataclass
from datetime import timedelta

from deadletters.prune import prunable, prune_letters
from pipelines.prune import prune_chords, prune_results, prune_runs
from pipelines.storage import prune_files
from schedules.prune import prune_occurrences

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """How many rows of each kind, and intermediate files, were deleted (or would be)."""

    dead_letters: int
    runs: int
    chords: int
    results: int
    files: int
    occurrences: int

    def as_dict(self) -> dict[str, int]:
        """The same, as JSON likes it."""
        return asdict(self)


def prune(older_than: timedelta, *, dry_run: bool = False) -> Pruned:
    """Delete letters, runs, chords, results, files and occurrences that are older than `older_than` and that nothing open needs any more.

    Letters go first, results and their files last: what a letter, run or chord held on to is then free.
    """
    pruned = Pruned(
        dead_letters=prunable(older_than) if dry_run else prune_letters(older_than),
        runs=prune_runs(older_than, dry_run=dry_run),
        chords=prune_chords(older_than, dry_run=dry_run),
        results=prune_results(older_than, dry_run=dry_run),
        files=prune_files(older_than, dry_run=dry_run),
        occurrences=prune_occurrences(older_than, dry_run=dry_run),
    )
    logger.info("pruned", extra={**pruned.as_dict(), "days": older_than.days, "dry_run": dry_run})
    return pruned
