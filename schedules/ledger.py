"""The beat's SQL: every claim, what became of it, and what is broken. All on the connection that holds the lock."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import namedtuple_row

from schedules.decide import Situation, Verdict
from schedules.plan import occurrence_id
from schedules.reasons import Reason, columns, reason

Connection = psycopg.Connection[Any]

# Moments as numbers: PostgreSQL stores some for which Python has no word, and reading one would fail for all rows.
FULL = """
    SELECT task.id, task.name, task.task, args, kwargs, headers, queue, exchange, routing_key, priority, expire_seconds, one_off,
           interval_id, crontab_id, solar_id, clocked_id, CASE WHEN expires BETWEEN '1900-01-01' AND '9000-01-01' THEN expires END AS expires,
           extract(epoch FROM last_run_at)::float8 AS last, extract(epoch FROM date_changed)::float8 AS changed,
           extract(epoch FROM start_time)::float8 AS start, policy.overlap, policy.missed, policy.catch_up_limit, policy.grace, policy.pause_after_failures, policy.pause_reason, policy.pause_why,
           policy.paused_at IS NOT NULL AND policy.paused_until IS NULL AS paused, extract(epoch FROM policy.paused_until)::float8 AS paused_until,
           extract(epoch FROM policy.resumed_at)::float8 AS resumed_at, coalesce(policy.jitter, 0) AS jitter,
           extract(epoch FROM task.expires)::float8 AS ends
      FROM django_celery_beat_periodictask task LEFT JOIN schedules_policy policy ON policy.schedule_id = task.id
     WHERE """
CLAIM = """
    INSERT INTO schedules_occurrence (id, schedule_id, name, due_at, state, reason, why, folded, by, claimed_at, copy, outcome)
    SELECT id, schedule_id, name, to_timestamp(due_at), state, left(reason, 500), why::jsonb, folded, '', clock_timestamp(), '', ''
      FROM unnest(%s::uuid[], %s::int[], %s::text[], %s::float8[], %s::text[], %s::text[], %s::text[], %s::int[])
        AS claim (id, schedule_id, name, due_at, state, reason, why, folded)
        ON CONFLICT (id) DO NOTHING
    RETURNING id
"""
# A row that somebody's open transaction holds is not waited for: the ledger is the truth, and the next run writes it again.
ADVANCE = """
    UPDATE django_celery_beat_periodictask task
       SET last_run_at = to_timestamp(done.due_at), enabled = task.enabled AND NOT done.over,
           total_run_count = CASE WHEN done.over AND task.one_off THEN 0 ELSE task.total_run_count + done.runs END
      FROM unnest(%(ids)s::int[], %(due)s::float8[], %(runs)s::int[], %(over)s::bool[]) AS done (id, due_at, runs, over)
     WHERE task.id = done.id
       AND task.id IN (SELECT id FROM django_celery_beat_periodictask WHERE id = ANY(%(ids)s) FOR NO KEY UPDATE SKIP LOCKED)
"""
SENT = "UPDATE schedules_occurrence SET state = 'sent', sent_at = clock_timestamp() WHERE id = ANY(%s) AND state = 'claimed'"
REFUSED = """
    UPDATE schedules_occurrence occurrence SET state = 'refused', reason = left(refused.reason, 500), why = refused.why::jsonb
      FROM unnest(%s::uuid[], %s::text[], %s::text[]) AS refused (id, reason, why) WHERE occurrence.id = refused.id AND state = 'claimed'
"""
UNSENT = """
    SELECT id, schedule_id, extract(epoch FROM due_at)::float8 FROM schedules_occurrence WHERE state = 'claimed' ORDER BY due_at LIMIT %s
"""
# Whether one of the newest runs of each schedule (somebody may have run it by hand meanwhile) waits in its queue or runs, as far as anybody can
# tell. What has not been heard of for a day is lost.
ALIVE = """
    SELECT wanted.id, EXISTS (
           SELECT FROM (SELECT * FROM schedules_occurrence WHERE schedule_id = wanted.id AND state IN ('claimed', 'sent')
                         ORDER BY due_at DESC LIMIT 10) run
             LEFT JOIN django_celery_results_taskresult result ON result.task_id = run.id::text
            WHERE run.claimed_at > now() - interval '1 day'
              AND NOT coalesce(nullif(run.outcome, ''), result.status, '') IN ('SUCCESS', 'FAILURE', 'REVOKED', 'REJECTED', 'IGNORED'))
      FROM unnest(%s::int[]) AS wanted (id)
"""
WAITING = "SELECT DISTINCT schedule_id FROM schedules_occurrence WHERE state = 'waiting' AND schedule_id = ANY(%s)"
ALL_WAITING = "SELECT DISTINCT schedule_id FROM schedules_occurrence WHERE state = 'waiting' LIMIT 1000"
# Not for a one-off: beat itself turns it off when it claims its run.
UNWANTED = """
    UPDATE schedules_occurrence waiting SET state = 'skipped', reason = %s, why = %s
     WHERE state = 'waiting' AND NOT EXISTS (
           SELECT FROM django_celery_beat_periodictask task LEFT JOIN schedules_policy policy ON policy.schedule_id = task.id
            WHERE task.id = waiting.schedule_id AND (task.enabled OR task.one_off)
              AND (policy.paused_at IS NULL OR policy.paused_until <= now()))
"""
RELEASE = """
    UPDATE schedules_occurrence SET state = 'claimed', reason = %s, why = %s, claimed_at = clock_timestamp()
     WHERE state = 'waiting' AND schedule_id = ANY(%s)
"""
# How many of the last ended runs since the last resumption failed, and how many there were.
FAILURES = """
    SELECT wanted.id, count(*), count(*) FILTER (WHERE ended.outcome = 'FAILURE')
      FROM unnest(%s::int[], %s::int[]) AS wanted (id, number)
      LEFT JOIN schedules_policy policy ON policy.schedule_id = wanted.id
     CROSS JOIN LATERAL (
           SELECT coalesce(nullif(run.outcome, ''), result.status) AS outcome FROM schedules_occurrence run
             LEFT JOIN django_celery_results_taskresult result ON result.task_id = run.id::text
            WHERE run.schedule_id = wanted.id AND run.state = 'sent' AND (policy.resumed_at IS NULL OR run.due_at > policy.resumed_at)
              AND coalesce(nullif(run.outcome, ''), result.status) IN ('SUCCESS', 'FAILURE', 'REVOKED', 'REJECTED', 'IGNORED')
            ORDER BY run.due_at DESC LIMIT wanted.number) ended
     GROUP BY wanted.id
"""
NEWEST = """
    SELECT wanted.id, extract(epoch FROM (SELECT max(due_at) FROM schedules_occurrence WHERE schedule_id = wanted.id AND by = '' AND due_at <= now()))::float8
      FROM unnest(%s::int[]) AS wanted (id)
"""
# A policy that somebody is editing is left to them; the next due time asks again.
PAUSE = """
    UPDATE schedules_policy SET paused_at = now(), paused_until = NULL, pause_reason = %s, pause_why = %s, paused_by = 'beat'
     WHERE schedule_id IN (SELECT schedule_id FROM schedules_policy WHERE schedule_id = %s AND paused_at IS NULL FOR UPDATE SKIP LOCKED)
"""
RESUME = """
    UPDATE schedules_policy SET resumed_at = paused_until, paused_at = NULL, paused_until = NULL
     WHERE schedule_id IN (SELECT schedule_id FROM schedules_policy WHERE schedule_id = ANY(%s) AND paused_until <= now() FOR UPDATE SKIP LOCKED)
"""
BREAK = """
    INSERT INTO schedules_broken (schedule_id, reason, why, since)
    SELECT task.id, left(told.reason, 500), told.why::jsonb, now() FROM unnest(%s::int[], %s::text[], %s::text[]) AS told (id, reason, why)
      JOIN django_celery_beat_periodictask task ON task.id = told.id
        ON CONFLICT (schedule_id) DO UPDATE SET reason = excluded.reason, why = excluded.why
     WHERE (schedules_broken.reason, schedules_broken.why) IS DISTINCT FROM (excluded.reason, excluded.why)
"""
MEND = "DELETE FROM schedules_broken WHERE schedule_id = ANY(%s)"
MEND_BETWEEN = "DELETE FROM schedules_broken WHERE schedule_id > %s AND (%s::int IS NULL OR schedule_id <= %s) AND NOT schedule_id = ANY(%s)"


def rows(connection: Connection, ids: Iterable[int], *, also_off: bool = False) -> list[Any]:
    """The whole rows of schedules, with their policies."""
    where = "task.id = ANY(%s)" if also_off else "task.id = ANY(%s) AND task.enabled"
    with connection.cursor(row_factory=namedtuple_row) as cursor:
        return cursor.execute(FULL + where, (list(ids),)).fetchall()


def slice_of_rows(connection: Connection, start: int, number: int) -> list[Any]:
    """The next enabled rows in order of their ids."""
    with connection.cursor(row_factory=namedtuple_row) as cursor:
        where = "task.enabled AND task.id > %s ORDER BY task.id LIMIT %s"
        return cursor.execute(FULL + where, (start, number)).fetchall()


def claim(connection: Connection, verdicts: Sequence[tuple[Any, Verdict]]) -> set[UUID]:
    """Write rows of the ledger; returns the ids of those that nobody had written before."""
    if not verdicts:
        return set()
    told = zip(verdicts, columns(v.why for _row, v in verdicts), strict=True)
    facts = zip(
        *(
            (occurrence_id(row.id, v.due_at), row.id, row.name, v.due_at, v.state.value, *why, v.folded)
            for (row, v), why in told
        ),
        strict=True,
    )
    return {won for (won,) in connection.execute(CLAIM, [list(column) for column in facts]).fetchall()}


def refuse(connection: Connection, refused: Mapping[UUID, Sequence[Reason]]) -> None:
    """Note why some can never be sent."""
    connection.execute(REFUSED, (list(refused), *map(list, zip(*columns(refused.values()), strict=True))))


def pause(connection: Connection, schedule: int, failures: int) -> None:
    """Pause it from now on: so many of its last runs failed."""
    connection.execute(PAUSE, (*columns([[reason("failures", number=failures)]])[0], schedule))


def situations(connection: Connection, rows: Iterable[Any]) -> dict[int, Situation]:
    """What is known of the last runs of those schedules whose policy asks for it."""
    careful = [row.id for row in rows if row.overlap not in {None, "allow"}]
    strict = {row.id: row.pause_after_failures for row in rows if row.pause_after_failures}
    alive: dict[int, bool] = {}
    waiting: set[int] = set()
    failing: set[int] = set()
    if careful:
        alive = dict(connection.execute(ALIVE, (careful,)).fetchall())
        waiting = {pk for (pk,) in connection.execute(WAITING, (careful,)).fetchall()}
    if strict:
        found = connection.execute(FAILURES, (list(strict), list(strict.values()))).fetchall()
        failing = {pk for pk, ended, failed in found if ended == failed == strict[pk]}
    return {
        pk: Situation(
            alive=alive.get(pk, False) or pk in waiting,
            waiting=pk in waiting,
            failing=strict[pk] if pk in failing else 0,
        )
        for pk in {*careful, *strict}
    }


def release(connection: Connection) -> int:
    """Let those go that waited for a run that has ended; they are claimed then. Returns how many."""
    connection.execute(UNWANTED, columns([[reason("unwanted")]])[0])
    waiting = [pk for (pk,) in connection.execute(ALL_WAITING).fetchall()]
    if not waiting:
        return 0
    alive = dict(connection.execute(ALIVE, (waiting,)).fetchall())
    free = [pk for pk in waiting if not alive.get(pk)]
    return connection.execute(RELEASE, (*columns([[reason("ran_after")]])[0], free)).rowcount if free else 0
