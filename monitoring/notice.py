"""What an alert or a report says, before a channel spells it in its own way."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """A subject of one line, a text of some lines, and the page that shows more ("" where there is none)."""

    subject: str
    text: str
    link: str = ""


class NotDelivered(Exception):
    """The channel refused the notice, and another try would be refused too."""


class NotDeliveredYet(Exception):
    """The channel is away or busy; a later try may succeed."""


def one_line(text: str, longest: int = 200) -> str:
    """`text` without line breaks or runs of blanks, at most `longest` characters."""
    # Cut first: a message may be megabytes long.
    line = " ".join(text[: longest * 4].split())
    return line if len(line) <= longest else line[: longest - 1] + "…"
