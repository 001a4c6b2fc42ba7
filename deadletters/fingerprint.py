"""Which letters are one bug. Pure."""

import hashlib
import re

# What changes from one death to the next of the same bug, most specific first.
_VOLATILE = (
    (re.compile(r"\b[a-z][a-z0-9+.-]*://\S+", re.IGNORECASE), "<url>"),
    (re.compile(r"\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b", re.IGNORECASE), "<id>"),
    (re.compile(r"\b[\w.+-]+@[\w-]+\.[\w.-]+\b"), "<mail>"),
    # Quoted values; not the apostrophe of "can't".
    (re.compile(r"(?<!\w)'[^']*'(?!\w)|\"[^\"]*\"|`[^`]*`|“[^”]*”|«[^»]*»"), "<value>"),
    (re.compile(r"\b[a-z]:\\[^\s:;,]+", re.IGNORECASE), "<path>"),
    (re.compile(r"(?<![\w/])~?/(?:[\w.@~+-]+/)*[\w.@~+-]+"), "<path>"),
    (re.compile(r"(?<![\w/])(?:[\w.@~+-]+/)+[\w@~+-]+\.\w{1,8}\b"), "<path>"),
    (
        re.compile(
            r"(?<![\w:])(?:[0-9a-f]{1,4}:){7}[0-9a-f]{1,4}(?![\w:])|(?<![\w:])(?:[0-9a-f]{1,4}:)*:(?:[0-9a-f]{1,4}:)*[0-9a-f]{1,4}(?![\w:])",
            re.IGNORECASE,
        ),
        "<n>",
    ),
    (re.compile(r"\b[\w-]+(?:\.[\w-]+)*:\d{2,5}\b"), "<address>"),
    (re.compile(r"\b0x[0-9a-f]+\b", re.IGNORECASE), "<n>"),
    (re.compile(r"\b(?=[0-9a-f]*\d)[0-9a-f]{8,}\b", re.IGNORECASE), "<n>"),
    # Ids of people's own making: letters and digits mixed, long enough to be no word like utf8.
    (re.compile(r"\b(?=\w*\d)(?=\w*[a-z])\w{8,}\b", re.IGNORECASE), "<id>"),
    (re.compile(r"\d+(?:[.,:]\d+)*"), "<n>"),
)
# KeyError and its like say nothing but a name: that name is the bug.
_NAME_ONLY = re.compile(r"['\"][A-Za-z_]+['\"]")
_FRAME = re.compile(r'^[ \t]*File "(?P<file>[^"]+)", line \d+, in (?P<function>\S+)', re.MULTILINE)
_LIBRARY = re.compile(r"/(?:site|dist)-packages/|/lib/python3|<frozen|<string>")


def normalise(message: str) -> str:
    """`message` without what differs between two deaths of one bug: numbers, ids, addresses, paths, quoted values."""
    first_line = message.strip().split("\n", 1)[0][:500].strip()
    if _NAME_ONLY.fullmatch(first_line):
        return first_line
    for pattern, stand_in in _VOLATILE:
        first_line = pattern.sub(stand_in, first_line)
    return first_line


def call_site(traceback: str) -> str:
    """`file:function` of the innermost frame that is not a library's, or an empty text. No line number: edits elsewhere move it."""
    ours = [frame for frame in _FRAME.finditer(traceback) if not _LIBRARY.search(frame["file"])]
    return f"{ours[-1]['file'].rsplit('/', 1)[-1]}:{ours[-1]['function']}" if ours else ""


def fingerprint(*, task_name: str, cause: str, exception_type: str, message: str, traceback: str) -> str:
    """32 hexadecimal digits that letters of one bug share."""
    parts = (task_name, cause, exception_type, normalise(message), call_site(traceback))
    return hashlib.blake2b("\x1f".join(parts).encode("utf-8", "replace"), digest_size=16).hexdigest()
