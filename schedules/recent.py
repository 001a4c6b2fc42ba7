"""What became of the last runs: one query for a page of schedules."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import mean
from uuid import UUID

from django.conf import settings
from django.db import connection
from django.utils.formats import number_format
from django.utils.module_loading import import_string
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from schedules.history import LATE, State
from schedules.models import Schedule
from schedules.plan import delay
from schedules.spec import policy_of

SHOWN = 14
# The newest occurrences by the index of each schedule: a schedule that runs each second costs what a yearly one does.
SQL = """
SELECT newest.schedule_id, newest.id, newest.due_at, newest.sent_at, newest.state, newest.reason, newest.folded, newest.by,
       COALESCE(NULLIF(newest.outcome, ''), result.status), result.id,
       EXTRACT(EPOCH FROM result.date_done - result.date_started)::float8
  FROM unnest(%s::int[]) AS wanted(id)
 CROSS JOIN LATERAL (SELECT * FROM schedules_occurrence WHERE schedule_id = wanted.id AND due_at < %s::timestamptz
                      ORDER BY due_at DESC LIMIT %s) newest
  LEFT JOIN django_celery_results_taskresult result ON result.task_id = newest.id::text
 ORDER BY newest.schedule_id, newest.due_at DESC
"""
# What a mark is called. Each has a shape of its own in the templates.
MARKS = {
    "succeeded": gettext_lazy("succeeded"),
    "failed": gettext_lazy("failed"),
    "revoked": gettext_lazy("revoked"),
    "running": gettext_lazy("running"),
    "sent": gettext_lazy("sent"),
    "claimed": gettext_lazy("about to be sent"),
    "waiting": gettext_lazy("waits for the run before"),
    "skipped": gettext_lazy("skipped"),
    "missed": gettext_lazy("missed"),
    "refused": gettext_lazy("refused"),
}
OUTCOMES = {"SUCCESS": "succeeded", "FAILURE": "failed", "REJECTED": "failed", "REVOKED": "revoked", "IGNORED": "succeeded", "STARTED": "running", "RETRY": "running", "RECEIVED": "running"}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """One occurrence and its outcome. `mark` is a key of MARKS; `letter` the address of its dead letter, if it has one."""

    task_id: str
    due_at: datetime
    sent_at: datetime | None
    mark: str
    reason: str
    folded: int
    by: str
    result: int | None
    took: timedelta | None
    jitter: timedelta = timedelta(0)  # by how much it was put off on purpose
    letter: str = ""

    @property
    def words(self) -> str:
        """The mark as a word, for people."""
        return str(MARKS[self.mark])

    @property
    def late(self) -> timedelta | None:
        """How much later than due it was sent, when that is worth saying."""
        delay = self.sent_at and self.sent_at - self.due_at - self.jitter
        return delay if delay and delay > LATE else None

    @property
    def late_words(self) -> str:
        """How late, for people."""
        return brief(self.late) if self.late else ""

    @property
    def took_words(self) -> str:
        """How long it took, for people."""
        return "" if self.took is None else brief(self.took)

    @property
    def was_sent(self) -> bool:
        """Whether a message left."""
        return self.sent_at is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Recent:
    """The last occurrences of one schedule, newest first."""

    past: list[Past]

    @property
    def last(self) -> Past | None:
        """The last one that was sent."""
        return next((one for one in self.past if one.was_sent), None)

    @property
    def average(self) -> timedelta | None:
        """How long those that are done took."""
        took = [one.took.total_seconds() for one in self.past if one.took is not None]
        return timedelta(seconds=mean(took)) if took else None

    @property
    def average_words(self) -> str:
        """The average, for people."""
        return "" if self.average is None else brief(self.average)

    @property
    def summary(self) -> str:
        """`12 succeeded, 1 failed`."""
        counts = {mark: sum(one.mark == mark for one in self.past) for mark in MARKS}
        return ", ".join(f"{count} {MARKS[mark]}" for mark, count in counts.items() if count) or _("none yet")


def recent(
    schedules: Iterable[Schedule], *, letters: bool, count: int = SHOWN, before: datetime | None = None
) -> dict[int, Recent]:
    """By schedule's id, the last occurrences; one query, and one more for the dead letters where `letters` may be seen."""
    jitters = {schedule.pk: policy_of(schedule).jitter for schedule in schedules}
    ids = list(jitters)
    with connection.cursor() as cursor:
        cursor.execute(SQL, [ids, before or "infinity", count])
        rows = cursor.fetchall()
    addresses = _letters(rows) if letters else {}
    found: dict[int, list[Past]] = {pk: [] for pk in ids}
    for pk, task_id, due_at, sent_at, state, reason, folded, by, outcome, result, seconds in rows:
        mark = OUTCOMES.get(outcome or "", state) if state == State.SENT else state
        done = mark in {"succeeded", "failed"} and seconds is not None
        past = Past(
            task_id=str(task_id),
            due_at=due_at,
            sent_at=sent_at,
            mark=mark,
            reason=reason,
            folded=folded,
            by=by,
            result=result,
            took=timedelta(seconds=max(0.0, seconds)) if done else None,
            jitter=timedelta(seconds=delay(pk, due_at.timestamp(), 0 if by else jitters[pk])),
            letter=addresses.get(str(task_id), ""),
        )
        found[pk].append(past)
    return {pk: Recent(past=several) for pk, several in found.items()}


def brief(span: timedelta) -> str:
    """`0.3 s`, `42 s`, `4 m 10 s`, `2 h 5 m`, `3 d 4 h`."""
    seconds = span.total_seconds()
    if seconds < 10:
        return _("%s s") % number_format(round(seconds, 1), 1)
    units = ((86_400, _("%d d")), (3600, _("%d h")), (60, _("%d m")), (1, _("%d s")))
    parts: list[str] = []
    rest = round(seconds)
    for size, words in units:
        number, rest = divmod(rest, size)
        if number or parts:
            parts.append(words % number if number else "")
    return " ".join(filter(None, parts[:2]))


def _letters(rows: Iterable[tuple[object, ...]]) -> Mapping[str, str]:
    """Task id -> address of its dead letter: SCHEDULES_LETTER_URLS names a function of task ids, if the project keeps letters."""
    dotted: str = getattr(settings, "SCHEDULES_LETTER_URLS", "")
    ids = [str(row[1]) for row in rows if isinstance(row[1], UUID)]
    return import_string(dotted)(ids) if dotted and ids else {}
