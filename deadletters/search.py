"""What the search box of the dead letters finds."""

import re
import uuid

from django.db.models import BooleanField, Q, QuerySet
from django.db.models.expressions import RawSQL
from django.utils.translation import gettext as _

from deadletters.models import DeadLetter

# Two letters are in everything.
SHORTEST = 3
# More words narrow no further.
WORDS = 8

# The expression of the index letters_by_word (migration 0003_words), word for word: else the planner does not use it.
_HAS_WORDS = """
    to_tsvector('simple', regexp_replace(
        lower(deadletters_deadletter.exception_type || ' ' || deadletters_deadletter.task_name || ' '
            || left(deadletters_deadletter.exception_message, 1000)), '[^[:alnum:]]+', ' ', 'g'
    )) @@ to_tsquery('simple', %s)
"""


class TooShort(ValueError):
    """The text would match nearly everything; the message says so."""


def find(letters: QuerySet[DeadLetter], text: str) -> QuerySet[DeadLetter]:
    """Letters of a task or workflow id (as it is), or with all words of `text` in their error or task name; a word may be a beginning.

    Raises:
        TooShort: fewer than SHORTEST letters.
    """
    text = text.strip()
    if not text:
        return letters
    if is_uuid(text):
        return letters.filter(Q(task_id=text) | Q(root_id=text))
    words = _words(text)
    if sum(map(len, words)) < SHORTEST:
        raise TooShort(_("Search for %(number)s letters or more.") % {"number": SHORTEST})
    # Celery lets people choose their own ids. Found first: an OR between two indexes would be no quick question.
    own = letters.filter(task_id=text)
    if own.exists():
        return own
    return letters.filter(RawSQL(_HAS_WORDS, [query(words)], output_field=BooleanField()))  # noqa: S611  (no value is in the text)


def query(words: list[str]) -> str:
    """PostgreSQL's text search query: every word, as the beginning of one."""
    return " & ".join(f"{word}:*" for word in words)


def is_uuid(text: str) -> bool:
    """Whether it is an id of the kind that Celery makes."""
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True


def _words(text: str) -> list[str]:
    """Letters and digits, as the index parts them."""
    return re.findall(r"[^\W_]+", text.lower())[:WORDS]
