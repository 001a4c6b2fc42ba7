"""A traceback's text to what the page shows: newest call first, ours apart from the libraries'. Pure."""

import re
from dataclasses import dataclass, field

from django.utils.safestring import SafeString, mark_safe
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexer import Lexer
from pygments.lexers import JsonLexer, PythonLexer, PythonTracebackLexer

# A page shows no more of a text than this, in characters.
LIMIT = 64 * 1024

_FRAME = re.compile(r'^\s+File "(?P<file>[^"]+)", line (?P<line>\d+)(?:, in (?P<function>.+))?$')
_BETWEEN = {
    "The above exception was the direct cause of the following exception:": "cause",
    "During handling of the above exception, another exception occurred:": "context",
}
_LIBRARIES = ("/site-packages/", "/dist-packages/", "/lib/python3", "/lib64/python3", "<frozen ")
_MARKS = re.compile(r"^[\s~^]+$")
_HTML: HtmlFormatter[str] = HtmlFormatter(nowrap=True, classprefix="pg-")
_PYTHON, _TRACEBACK, _JSON = PythonLexer(), PythonTracebackLexer(), JsonLexer()


@dataclass(slots=True, kw_only=True)
class Frame:
    """One call."""

    file: str
    line: int
    function: str
    ours: bool
    code: str = ""

    @property
    def html(self) -> SafeString:
        """The source line, coloured."""
        return _colour(self.code, _PYTHON)


@dataclass(slots=True, kw_only=True)
class Raised:
    """One exception of a chain, with its calls."""

    frames: list[Frame] = field(default_factory=list)  # newest first
    headline: str = ""
    # How it led to the exception that is shown before it: "cause" (raise … from), "context" (during its handling), "" (the last).
    led: str = ""


def parse(text: str) -> list[Raised]:
    """The exceptions of a traceback, the one that ended the task first; empty when the text is no traceback."""
    chain = [Raised()]
    for line in text[-LIMIT:].splitlines():
        if led := _BETWEEN.get(line.strip()):
            chain[-1].led = led
            chain.append(Raised())
        else:
            _take(chain[-1], line)
    for raised in chain:
        raised.frames.reverse()
        raised.headline = raised.headline.strip()
    return [raised for raised in reversed(chain) if raised.frames]


def _take(raised: Raised, line: str) -> None:
    if found := _FRAME.match(line):
        ours = not any(part in found["file"] for part in _LIBRARIES)
        function = found["function"] or "<module>"
        raised.frames.append(Frame(file=found["file"], line=int(found["line"]), function=function, ours=ours))
        raised.headline = ""
    elif line.startswith("    ") and raised.frames and not raised.headline:
        if not _MARKS.match(line):
            raised.frames[-1].code += line.strip() + "\n"
    elif line and not line.startswith("Traceback (most recent call last)"):
        raised.headline += line + "\n"


def coloured_traceback(text: str) -> SafeString:
    """The raw text, coloured; its last LIMIT characters, for the end is what tells."""
    return _colour(text[-LIMIT:], _TRACEBACK)


def coloured_json(text: str) -> SafeString:
    """JSON, coloured; its first LIMIT characters."""
    return _colour(text[:LIMIT], _JSON)


def _colour(text: str, lexer: Lexer) -> SafeString:
    # Pygments escapes what it prints.
    return mark_safe(highlight(text, lexer, _HTML)) if text else SafeString()  # noqa: S308
