"""Results, runs and chords that are old and that nothing needs any more."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.db import connection

# Rows one statement deletes: a lock of milliseconds, and a stop loses one batch at most.
BATCH = 1000

# An old run may still be at work, or wait for a replay.
RUNS = """
    SELECT run.id FROM pipelines_run run
     WHERE run.created_at < statement_timestamp() - %(age)s
       AND NOT EXISTS (SELECT FROM pipelines_step step
                         JOIN deadletters_deadletter letter ON letter.task_id = step.task_id
                        WHERE step.run_id = run.id AND letter.state IN ('open', 'replaying'))
       AND NOT EXISTS (SELECT FROM pipelines_step step
                         JOIN django_celery_results_taskresult result ON result.task_id = step.task_id
                        WHERE step.run_id = run.id AND result.date_done >= statement_timestamp() - %(age)s)
"""

# A letter that waits or is under way needs its own result, and those its chord collects. A run needs all of its own as long as it is
# there: what it shows is read off them, and a step without one seems to wait.
RESULTS = """
    SELECT result.id FROM django_celery_results_taskresult result
     WHERE result.date_done < statement_timestamp() - %(age)s
       AND NOT EXISTS (SELECT FROM deadletters_deadletter letter
                        WHERE letter.task_id = result.task_id AND letter.state IN ('open', 'replaying'))
       AND NOT EXISTS (SELECT FROM pipelines_step step WHERE step.task_id = result.task_id)
       AND NOT EXISTS (SELECT FROM pipelines_chord chord
                        WHERE chord.state <> 'done' AND chord.body_id = result.task_id AND chord.body_id <> '')
       AND result.task_id NOT IN (SELECT part #>> '{}' FROM pipelines_chord chord,
                                         jsonb_path_query(chord.header, '$.** ? (@.type() == "string")') part
                                   WHERE chord.state <> 'done')
"""
# Before the old runs are gone: what will be free when they are.
RESULTS_THEN = RESULTS.replace(
    "step.task_id = result.task_id", f"step.task_id = result.task_id AND step.run_id NOT IN ({RUNS})"
)

# Saved groups: the group of a waiting letter is asked for by id.
GROUPS = """
    SELECT saved.id FROM django_celery_results_groupresult saved
     WHERE saved.date_done < statement_timestamp() - %(age)s
       AND NOT EXISTS (SELECT FROM deadletters_deadletter letter
                        WHERE letter.group_id = saved.group_id AND letter.state IN ('open', 'replaying'))
       AND NOT EXISTS (SELECT FROM pipelines_chord chord WHERE chord.group_id = saved.group_id AND chord.state <> 'done')
"""

# A waiting or dispatching chord is never let go. A failed one is, once no letter of its lifetime waits any more: the step of a
# header's chain that died carries no group id, so the time is the only sure bond (a day's slack for clocks and slow captures).
CHORDS = """
    SELECT chord.id FROM pipelines_chord chord
     WHERE chord.updated_at < statement_timestamp() - %(age)s
       AND (chord.state = 'done' OR chord.state = 'failed' AND NOT EXISTS (
               SELECT FROM deadletters_deadletter letter
                WHERE letter.state IN ('open', 'replaying')
                  AND (letter.group_id = chord.group_id
                       OR letter.died_at BETWEEN chord.created_at - interval '1 day' AND chord.updated_at + interval '1 day')))
"""


# Told after each batch how many went so far.
Tell = Callable[[int], None]


def _nobody(_gone: int) -> None:
    """Tells nobody."""


def prune_results(older_than: timedelta, *, dry_run: bool = False, tell: Tell = _nobody) -> int:
    """Delete results (and saved groups) that ended more than `older_than` ago; returns how many.

    Spared: what open and replaying letters, runs, and chords that are not done still need. To be called when the old runs are gone.
    """
    results = _prune(
        RESULTS_THEN if dry_run else RESULTS,
        "result",
        "django_celery_results_taskresult",
        older_than,
        dry_run=dry_run,
        tell=tell,
    )
    groups = _prune(GROUPS, "saved", "django_celery_results_groupresult", older_than, dry_run=dry_run, tell=tell)
    return results + groups


def prune_chords(older_than: timedelta, *, dry_run: bool = False, tell: Tell = _nobody) -> int:
    """Delete chords that were done, or failed for good, more than `older_than` ago; returns how many."""
    return _prune(CHORDS, "chord", "pipelines_chord", older_than, dry_run=dry_run, tell=tell)


def prune_runs(older_than: timedelta, *, dry_run: bool = False, tell: Tell = _nobody) -> int:
    """Delete runs, with their steps, that began more than `older_than` ago and did nothing since; returns how many.

    Spared: runs with an open or replaying letter.
    """
    also = ("pipelines_step", "run_id")
    return _prune(RUNS, "run", "pipelines_run", older_than, dry_run=dry_run, tell=tell, also=also)


# Foreign keys are checked at the end of the statement, so parents and children may go in one. In the order of the key, each row is
# looked at once however many are spared; a row that somebody holds is passed over, not waited for.
_BATCH = """
    WITH doomed AS MATERIALIZED ({which}{after} ORDER BY {name}.id LIMIT %(batch)s FOR UPDATE OF {name} SKIP LOCKED){children},
         gone AS (DELETE FROM {table} WHERE id IN (SELECT id FROM doomed))
    SELECT count(*), (array_agg(id ORDER BY id DESC))[1] FROM doomed
"""


def _prune(
    which: str,
    name: str,
    table: str,
    older_than: timedelta,
    *,
    dry_run: bool,
    tell: Tell,
    also: tuple[str, str] | None = None,
) -> int:
    """Rows of `table` that the statement `which` calls `name`; `also` are (table, column) of those that belong to them."""
    values: dict[str, Any] = {"age": older_than, "batch": BATCH}
    # S608: the statements and names above.
    children = f", children AS (DELETE FROM {also[0]} WHERE {also[1]} IN (SELECT id FROM doomed))" if also else ""  # noqa: S608
    with connection.cursor() as cursor:
        if dry_run:
            cursor.execute(f"SELECT count(*) FROM ({which}) doomed", values)  # noqa: S608
            counted: int = cursor.fetchone()[0]
            return counted
        total: int = 0
        after = ""
        while True:
            cursor.execute(_BATCH.format(which=which, after=after, name=name, children=children, table=table), values)
            number, values["last"] = cursor.fetchone()
            total += number
            if number < BATCH:
                return total
            after = f" AND {name}.id > %(last)s"
            tell(total)
