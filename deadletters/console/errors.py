"""Open letters by error: one bug is one line. Read-only."""

import json
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.contrib.auth.models import User
from django.db import connection
from django.utils import timezone

from deadletters.console.listing import Count, count
from deadletters.models import Act, Cause, DeadLetter, ErrorGroup, State
from deadletters.secrets.redact import redactor

HOURS = 24
# Letters of one error are counted so far; a hundred errors are many counts.
COUNTED_EACH = 2_000
LEFT_OUT = 100_000
SHOWN = 100

# The rows of a small table, each counted only as far as a page shows it. Those that are shown are told by their newest letter: only
# they, for a bug whose messages have nothing in common is a hundred thousand errors.
_OPEN = """
    WITH error AS MATERIALIZED (
        SELECT fingerprint, state, deaths, last_seen, assignee_id, (
            SELECT count(*) FROM (
                SELECT FROM deadletters_deadletter letter
                WHERE letter.fingerprint = known.fingerprint AND letter.state = 'open' LIMIT %(limit)s
            ) capped
        ) AS number
        FROM deadletters_errorgroup known
    ), shown AS (
        SELECT * FROM error WHERE number > 0 ORDER BY state = 'regressed' DESC, number DESC, last_seen DESC LIMIT %(shown)s
    )
    SELECT shown.fingerprint, shown.number, newest.*, shown.state, shown.deaths, shown.assignee_id
    FROM shown CROSS JOIN LATERAL (
        SELECT exception_type, left(exception_message, 300), cause, task_name, died_at FROM deadletters_deadletter newest_letter
        WHERE newest_letter.fingerprint = shown.fingerprint AND newest_letter.state = 'open' ORDER BY died_at DESC LIMIT 1
    ) newest
    ORDER BY shown.state = 'regressed' DESC, shown.number DESC, newest.died_at DESC
"""
_COUNT_OPEN = """
    SELECT count(*) FROM deadletters_errorgroup known WHERE EXISTS (
        SELECT FROM deadletters_deadletter letter WHERE letter.fingerprint = known.fingerprint AND letter.state = 'open'
    )
"""
# By the index letters_not_kept, which only those letters are in.
_NOT_KEPT = """
    SELECT fingerprint, count(*) FILTER (WHERE NOT payload_kept), count(*) FILTER (WHERE NOT traceback_kept)
    FROM (
        SELECT fingerprint, payload_kept, traceback_kept FROM deadletters_deadletter
        WHERE fingerprint = ANY(%(fingerprints)s) AND state = 'open' AND (NOT traceback_kept OR NOT payload_kept) LIMIT %(limit)s
    ) capped
    GROUP BY fingerprint
"""
# The states are all there are: said, for the index has them between the fingerprint and the time.
_HOURLY = """
    SELECT fingerprint, date_bin('1 hour', died_at, %(since)s) AS hour, count(*)
    FROM deadletters_deadletter WHERE fingerprint = ANY(%(fingerprints)s) AND state = ANY(%(states)s) AND died_at >= %(since)s
    GROUP BY fingerprint, hour
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenError:
    """The open letters of one bug; type, message and task are those of the newest."""

    fingerprint: str
    open: Count
    exception_type: str
    message: str
    cause: Cause
    task_name: str
    last_seen: datetime
    # Of the open ones, how many have no message to replay, and no traceback (counted up to LEFT_OUT for all errors together).
    no_payload: int
    no_traceback: int
    state: ErrorGroup.State
    # Deaths there ever were.
    ever: int
    assignee: str
    # Letters that died in each of the last HOURS hours, oldest first.
    hourly: tuple[int, ...]

    @property
    def name(self) -> str:
        """The exception's type; the cause's name where nothing was raised."""
        return self.exception_type or str(self.cause.label)


def count_open_errors() -> int:
    """How many different errors have open letters."""
    with connection.cursor() as cursor:
        cursor.execute(_COUNT_OPEN)
        number: int = cursor.fetchone()[0]
    return number


def open_errors(shown: int = SHOWN) -> list[OpenError]:
    """The `shown` errors with the most open letters."""
    with connection.cursor() as cursor:
        cursor.execute(_OPEN, {"limit": COUNTED_EACH + 1, "shown": shown})
        rows = cursor.fetchall()
    fingerprints, many = [row[0] for row in rows], _many([row[0] for row in rows if row[1] > COUNTED_EACH])
    hourly, not_kept, mask = _hourly(fingerprints), _not_kept(fingerprints), redactor()
    people = User.objects.in_bulk({row[-1] for row in rows if row[-1]})
    found = [
        OpenError(
            fingerprint=fingerprint,
            open=many.get(fingerprint) or Count(number),
            exception_type=exception_type,
            message=mask.text(message),
            cause=Cause(cause),
            task_name=task_name,
            last_seen=died_at,
            no_payload=not_kept.get(fingerprint, (0, 0))[0],
            no_traceback=not_kept.get(fingerprint, (0, 0))[1],
            state=ErrorGroup.State(state),
            ever=ever,
            assignee=people[assignee].get_username() if assignee in people else "",
            hourly=hourly[fingerprint],
        )
        for fingerprint, number, exception_type, message, cause, task_name, died_at, state, ever, assignee in rows
    ]
    # The statement could not tell those apart that it counted to the end.
    return sorted(found, key=lambda error: (error.state == ErrorGroup.State.REGRESSED, error.open.number), reverse=True)


def _many(fingerprints: list[str]) -> dict[str, Count]:
    """What the planner thinks of more open letters than were counted; one statement for all of these errors."""
    if not fingerprints:
        return {}
    one = "SELECT FROM deadletters_deadletter WHERE fingerprint = %s AND state = 'open'"
    with connection.cursor() as cursor:
        cursor.execute("EXPLAIN (FORMAT JSON) " + " UNION ALL ".join([one] * len(fingerprints)), fingerprints)
        (told,) = cursor.fetchone()
    (plan,) = told if isinstance(told, list) else json.loads(told)
    parts = plan["Plan"]["Plans"] if len(fingerprints) > 1 else [plan["Plan"]]
    rows = (max(COUNTED_EACH, part["Plan Rows"]) for part in parts)
    return {fingerprint: Count(number, exact=False) for fingerprint, number in zip(fingerprints, rows, strict=True)}


def _not_kept(fingerprints: list[str]) -> dict[str, tuple[int, int]]:
    with connection.cursor() as cursor:
        cursor.execute(_NOT_KEPT, {"fingerprints": fingerprints, "limit": LEFT_OUT})
        return {fingerprint: (payloads, tracebacks) for fingerprint, payloads, tracebacks in cursor.fetchall()}


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorPage:
    """What the page of one error shows besides its row."""

    open: Count
    message: str
    newest: list[DeadLetter]
    acts: list[Act]
    hourly: tuple[int, ...]


def error_page(group: ErrorGroup) -> ErrorPage:
    """Read it."""
    letters = DeadLetter.objects.filter(fingerprint=group.fingerprint)
    newest = list(letters.defer("body", "headers", "properties", "sealed", "traceback")[:10])
    # Masked when they were stored; once more for names that are secret only since then.
    for letter in newest:
        letter.exception_message = redactor().text(letter.exception_message)
    return ErrorPage(
        open=count(letters.open()),
        message=redactor().text(group.message),
        newest=newest,
        acts=list(Act.objects.filter(fingerprint=group.fingerprint)[:50]),
        hourly=_hourly([group.fingerprint])[group.fingerprint],
    )


def _hourly(fingerprints: list[str]) -> dict[str, tuple[int, ...]]:
    since = timezone.now() - timedelta(hours=HOURS)
    with connection.cursor() as cursor:
        cursor.execute(_HOURLY, {"since": since, "fingerprints": fingerprints, "states": State.values})
        numbers = {(fingerprint, hour): number for fingerprint, hour, number in cursor.fetchall()}
    hours = [since + timedelta(hours=hour) for hour in range(HOURS)]
    return {fingerprint: tuple(numbers.get((fingerprint, hour), 0) for hour in hours) for fingerprint in fingerprints}
