"""What the search box of the dead letters finds."""

import re
import uuid
from typing import Any

from django.db import connection, transaction
from django.db.models import BooleanField, F, Func, Q, QuerySet, Value
from django.utils.translation import gettext as _

from deadletters.models import DeadLetter

# Two letters are in everything.
SHORTEST = 3
# More words narrow no further.
WORDS = 8
# What so many of the SAMPLE newest letters hold is common: reading on finds a page of it at once, and an index would list them all first.
SAMPLE, COMMON = 300, 30
# The index lists so many. Beyond it is no rare word either.
RARE = 5_000

# S608: no value is in the text. The expression of the index letters_by_word (migration 0007_words), else it is not used.
_WORDS_OF = """
    to_tsvector('simple', regexp_replace(
        lower({type} || ' ' || {task} || ' ' || left({message}, 1000)), '[^[:alnum:]]+', ' ', 'g'
    ))
"""
_OWN = _WORDS_OF.format(type="exception_type", task="task_name", message="exception_message")
_LISTED = f"SELECT id FROM deadletters_deadletter WHERE {_OWN} @@ to_tsquery('simple', %s) LIMIT %s"  # noqa: S608
_SAMPLED = f"""
    SELECT count(*) FROM (SELECT * FROM deadletters_deadletter ORDER BY died_at DESC, id DESC LIMIT %s) AS newest
    WHERE {_OWN} @@ to_tsquery('simple', %s)
"""  # noqa: S608


class TooShort(ValueError):
    """The text would match nearly everything; the message says so."""


class _HasWords(Func):
    """Whether a letter has these words, in a form that no index serves, and that the planner takes for true of every other row."""

    output_field = BooleanField()

    def as_sql(self, compiler: Any, connection: Any, **_: Any) -> tuple[str, list[Any]]:  # type: ignore[override]  # noqa: ARG002
        (kind, _k), (task, _t), (message, _m), (query, values) = map(compiler.compile, self.get_source_expressions())
        words = _WORDS_OF.format(type=kind, task=task, message=message)
        return f"CASE WHEN {words} @@ to_tsquery('simple', {query}) THEN true ELSE false END", list(values)


def find(letters: QuerySet[DeadLetter], text: str) -> QuerySet[DeadLetter]:
    """Letters of a task or workflow id (as it is), or with all words of `text` in their error or task name; a word may be a beginning.

    Raises:
        TooShort: fewer than SHORTEST letters.
    """
    return letters.filter(matching(text))


def matching(text: str) -> Q:
    """The same as a condition.

    Raises:
        TooShort: fewer than SHORTEST letters.
    """
    text = text.strip()
    if not text:
        return Q()
    if is_uuid(text):
        return Q(task_id=text) | Q(root_id=text)
    words = re.findall(r"[^\W_]+", text.lower())[:WORDS]  # letters and digits, as the index parts them
    if sum(map(len, words)) < SHORTEST:
        raise TooShort(_("Search for %(number)s letters or more.") % {"number": SHORTEST})
    # Celery lets people choose their own ids. Looked up first: an OR between two indexes would be no quick question.
    if DeadLetter.objects.filter(task_id=text).exists():
        return Q(task_id=text)
    query = " & ".join(f"{word}:*" for word in words)
    if not _is_common(query) and len(listed := _listed(query)) <= RARE:
        return Q(pk__in=listed)
    return Q(_HasWords(F("exception_type"), F("task_name"), F("exception_message"), Value(query)))


def is_uuid(text: str) -> bool:
    """Whether it is an id of the kind that Celery makes."""
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True


def _is_common(query: str) -> bool:
    """Whether one in ten of the newest letters has these words."""
    with connection.cursor() as cursor:
        cursor.execute(_SAMPLED, [SAMPLE, query])
        number: int = cursor.fetchone()[0]
    return number >= COMMON


def _listed(query: str) -> list[int]:
    """Ids of letters with these words, one more than RARE at most.

    PostgreSQL takes the beginning of a word for something that one row in fifty has, and would read the table for a rare one.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute(_LISTED, [query, RARE + 1])
        found = [pk for (pk,) in cursor.fetchall()]
        cursor.execute("SET LOCAL enable_seqscan = on")
    return found
