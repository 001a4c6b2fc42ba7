"""Which letters somebody means: the filter that commands, screens and redrives share."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Q
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.timezone import localtime
from django.utils.translation import gettext as _

from deadletters.models import Cause, DeadLetter, DeadLetterQuerySet
from deadletters.search import matching

# Years. At the ends of the calendar no zone but one's own can tell the time.
_FIRST, _LAST = 1970, 9000
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Letters by what they are. Empty fields ask for nothing; several fields must all hold, several values of one field one of them."""

    numbers: tuple[int, ...] = ()  # the letters' own
    ids: tuple[str, ...] = ()  # numbers or task ids, as people type them
    states: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    causes: tuple[str, ...] = ()
    queues: tuple[str, ...] = ()
    error: str = ""  # a fingerprint
    since: datetime | None = None  # died at or after
    until: datetime | None = None  # died before
    text: str = ""  # an id, or words of the error, as the search box takes them
    root: str = ""  # of the workflow with this root id
    replays_below: int = 0  # died again after fewer replays than that

    @property
    def empty(self) -> bool:
        """Whether it means every letter there is, whatever its state."""
        return not any(value for name, value in asdict(self).items() if name != "states")

    def letters(self) -> DeadLetterQuerySet:
        """The letters, newest first, without their heavy columns.

        Raises:
            TooShort: the text is in nearly everything.
        """
        letters = DeadLetter.objects.all()
        if self.ids:
            numbers = [int(value) for value in self.ids if value.isdecimal() and len(value) < 19]
            letters = letters.filter(Q(pk__in=numbers) | Q(task_id__in=self.ids))
        for field, values in (
            ("pk", self.numbers),
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
        if self.until:
            letters = letters.filter(died_at__lt=self.until)
        if self.replays_below:
            # Not by the replay's number: that counts what the broker did not take, too.
            letters = letters.filter(deaths__lte=self.replays_below)
        if self.root:
            letters = letters.filter(Q(root_id=self.root) | Q(task_id=self.root))
        if self.text:
            letters = letters.filter(matching(self.text))
        return letters.defer("body", "headers", "properties", "sealed", "traceback")

    def to_json(self) -> dict[str, Any]:
        """As it is stored with a redrive; what asks for nothing is left out."""
        found = {name: value for name, value in asdict(self).items() if value}
        return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in found.items()}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "Selection":
        """The inverse of `to_json`."""
        moments = {name: datetime.fromisoformat(stored[name]) for name in ("since", "until") if name in stored}
        lists = {name: tuple(value) for name, value in stored.items() if isinstance(value, list)}
        return cls(**{**stored, **lists, **moments})

    def in_words(self) -> str:
        """For the person who is asked whether this is meant, and for the audit trail."""
        named = (*map(str, self.numbers), *self.ids)
        words = [
            _("%(number)d named letters") % {"number": len(named)} if len(named) > 3 else ", ".join(named),
            _("task %s") % _or(self.tasks) if self.tasks else "",
            _("cause %s") % _or(tuple(str(Cause(cause).label) for cause in self.causes)) if self.causes else "",
            _("queue %s") % _or(self.queues) if self.queues else "",
            _("error %s") % self.error[:8] if self.error else "",
            _("workflow %s") % self.root if self.root else "",
            _("died since %s") % localtime(self.since).strftime("%Y-%m-%d %H:%M") if self.since else "",
            _("died before %s") % localtime(self.until).strftime("%Y-%m-%d %H:%M") if self.until else "",
            _("replayed fewer than %d times") % self.replays_below if self.replays_below else "",
            _("with “%s” in the error") % self.text if self.text else "",
        ]
        return " · ".join(filter(None, words)) or str(_("all open letters"))


def _or(values: tuple[str, ...]) -> str:
    return f" {_('or')} ".join(values)


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
    if not _FIRST <= moment.year <= _LAST:
        raise ValueError(f"{text!r}: no letter died in that year")
    return moment if timezone.is_aware(moment) else timezone.make_aware(moment)
