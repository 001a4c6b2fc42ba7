"""Which letters somebody means: the filter that commands, screens and redrives share."""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Q
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from deadletters.models import DeadLetter, DeadLetterQuerySet

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Letters by what they are. Empty fields ask for nothing; several fields must all hold, several values of one field one of them."""

    ids: tuple[str, ...] = ()  # letters' numbers or task ids
    states: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    causes: tuple[str, ...] = ()
    queues: tuple[str, ...] = ()
    error: str = ""  # a fingerprint
    since: datetime | None = None  # died at or after
    text: str = ""  # in the exception's type or message

    @property
    def empty(self) -> bool:
        """Whether it means every letter there is, whatever its state."""
        return not any((self.ids, self.tasks, self.causes, self.queues, self.error, self.since, self.text))

    def letters(self) -> DeadLetterQuerySet:
        """The letters, newest first, without their heavy columns."""
        letters = DeadLetter.objects.all()
        if self.ids:
            numbers = [int(value) for value in self.ids if value.isdecimal() and len(value) < 19]
            letters = letters.filter(Q(pk__in=numbers) | Q(task_id__in=self.ids))
        for field, values in (
            ("state", self.states),
            ("task_name", self.tasks),
            ("cause", self.causes),
            ("queue", self.queues),
        ):
            if values:
                letters = letters.filter(**{f"{field}__in": values})
        if self.error:
            letters = letters.filter(fingerprint=self.error)
        if self.since:
            letters = letters.filter(died_at__gte=self.since)
        if self.text:
            letters = letters.filter(Q(exception_type__icontains=self.text) | Q(exception_message__icontains=self.text))
        return letters.defer("body", "headers", "properties", "sealed", "traceback")


def parse_since(text: str) -> datetime:
    """`30m`, `2h`, `7d` ago, or a date and time (`2026-11-23 09:00`, in the settings' time zone without an offset).

    Raises:
        ValueError: neither; the text says what to write.
    """
    if match := re.fullmatch(r"(\d{1,6})\s*([smhdw])", text.strip()):
        try:
            return timezone.now() - timedelta(**{_UNITS[match[2]]: int(match[1])})
        except OverflowError:
            raise ValueError(f"{text!r} is longer ago than there are dates") from None
    try:
        moment = parse_datetime(text.strip()) or datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError(f"{text!r} is no time; write 30m, 2h, 7d, or 2026-11-23 09:00") from None
    return moment if timezone.is_aware(moment) else timezone.make_aware(moment)
