"""Everything that the page of one redrive shows. Read-only."""

from dataclasses import dataclass

from django.db.models import Count
from django.utils.translation import gettext as _

from deadletters.models import Act, DeadLetter, Redrive, RedriveItem
from deadletters.redrive.tally import awaited, tally
from deadletters.secrets.redact import redactor
from deadletters.selection import Selection

NAMED = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """One part of the bar; x and width in thousandths."""

    key: str
    label: str
    number: int
    x: float
    width: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One redrive, ready for its template."""

    redrive: Redrive
    words: str
    bar: list[Share]
    percent: int
    awaited: int
    left: int
    gone: int
    skipped: list[tuple[str, int]]
    died: list[DeadLetter]
    acts: list[Act]

    @property
    def moving(self) -> bool:
        """Whether anything on the page may still change."""
        return self.redrive.state in Redrive.ACTIVE or self.awaited > 0

    @property
    def can_pause(self) -> bool:
        """Whether it sends."""
        return self.redrive.state in {Redrive.State.CANARY, Redrive.State.SENDING}

    @property
    def can_resume(self) -> bool:
        """Whether it is held."""
        return self.redrive.state in Redrive.HELD

    @property
    def can_cancel(self) -> bool:
        """Whether there is something left to leave undone."""
        return self.can_pause or self.can_resume


def page_of(redrive: Redrive) -> Page:
    """Read it, with what has happened since the last look."""
    tally(redrive)
    items = RedriveItem.objects.filter(redrive=redrive)
    underway = awaited(redrive)
    # Sent everything: what is missing then was no longer open when its turn came.
    over = redrive.state in {Redrive.State.WATCHING, Redrive.State.DONE}
    rest = max(0, redrive.total - redrive.sent - redrive.skipped)
    gone, left = (rest, 0) if over else (0, rest)
    parts = [
        ("resolved", _("succeeded"), redrive.succeeded),
        ("open", _("died again"), redrive.died),
        ("replaying", _("on their way"), underway),
        ("discarded", _("skipped"), redrive.skipped + gone),
        ("waiting", _("not sent yet"), left),
    ]
    again = items.filter(outcome=RedriveItem.Outcome.DIED).values_list("dead_letter_id", flat=True)[:NAMED]
    letters = DeadLetter.objects.filter(pk__in=list(again)).defer(
        "body", "headers", "properties", "sealed", "traceback"
    )
    for letter in letters:
        letter.exception_message = redactor().text(letter.exception_message)
    whys = items.filter(outcome=RedriveItem.Outcome.SKIPPED).values_list("why").annotate(number=Count("dead_letter_id"))
    return Page(
        redrive=redrive,
        words=Selection.from_json(redrive.selection).in_words(),
        bar=_bar(parts, redrive.total),
        percent=100 * (redrive.total - left) // redrive.total if redrive.total else 100,
        awaited=underway,
        left=left,
        gone=gone,
        skipped=sorted(whys, key=lambda one: -one[1])[:NAMED],
        died=list(letters),
        acts=list(Act.objects.filter(redrive_id=redrive.pk)[:50]),
    )


def _bar(parts: list[tuple[str, str, int]], total: int) -> list[Share]:
    shares, x = [], 0.0
    for key, label, number in parts:
        width = 1000 * number / max(total, 1)
        shares.append(Share(key=key, label=label, number=number, x=round(x, 2), width=round(width, 2)))
        x += width
    return shares
