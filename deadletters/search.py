"""What the search box of the dead letters finds."""

import uuid

from django.db.models import Q, QuerySet
from django.utils.translation import gettext as _

from deadletters.models import DeadLetter

# Two letters are in everything.
SHORTEST = 3


class TooShort(ValueError):
    """The text would match nearly everything; the message says so."""


def find(letters: QuerySet[DeadLetter], text: str) -> QuerySet[DeadLetter]:
    """Letters of a task or workflow id (a UUID, looked up as it is), or with `text` in their error or task name.

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
    if len(text) < SHORTEST:
        raise TooShort(_("Search for %(number)s letters or more.") % {"number": SHORTEST})
    return (
        Q(exception_message__icontains=text)
        | Q(exception_type__icontains=text)
        | Q(task_name__icontains=text)
        | Q(task_id=text)  # Celery lets people choose their own
    )


def is_uuid(text: str) -> bool:
    """Whether it is an id of the kind that Celery makes."""
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True
