"""Secrets in texts that people wrote or programs printed: messages, tracebacks, log lines, addresses. Pure."""

import re
from collections.abc import Iterable, Mapping

from deadletters.secrets.redact_names import SecretNames

MASK = "••••"
# No name that people gave is longer.
_LONGEST = 128

# What is a secret by its look, whatever it is called.
_SHAPES = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"
    r"|\beyJ[\w-]{8,4096}+\.[\w-]{8,}+\.[\w-]*"  # a JSON Web Token; bounded, for each `-eyJ` of a long word is looked at
    r"|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"
    r"|\b(?:gh[pousr]_|github_pat_|glpat-|xox[abeoprs]-|[sr]k_(?:live|test)_)[\w-]{10,}"
    r"|(?<=hooks\.slack\.com/services/)[\w/-]+"
    r"|(?<=\bBearer )[\w.~+/=-]{6,}|(?<=\bBasic )[\w+/=-]{6,}",
    re.DOTALL,
)
# user:password@ of an address. A user of twenty letters or more is a token.
_ADDRESS = re.compile(r"(?<=://)(?:(?P<user>[^\s/:@'\"]*):(?P<password>[^\s/'\"]+)|(?P<token>[^\s/:@'\"]{20,}))@")
# PostgreSQL's: Key (email, token)=(a@example.com, abc) already exists.
_ROW = re.compile(r"\((?P<names>[\w\", ]+)\)=\((?P<values>[^\n]*)\)")
# A name, and what comes before its value: `name=`, `'name': `, `name => `; `name 'quoted'`; `--name value`.
_NAME = re.compile(
    r"(?<![\w-])(?P<name>[\w-]{1,128})"
    r"(?P<between>\\*[\"']?\]?[ \t]*(?:=>|[!:+=]?=|:)[ \t]*|[ \t]+(?=\\*[\"'])|(?<=\w)[ \t]+)(?=\S)"
)
_QUOTED = re.compile(
    r"[bruf]{0,2}(?P<quote>\"\"\"|''')(?P<inner>.*?)(?P=quote)"
    r"|[bruf]{0,2}(?P<q>\\*[\"'])(?P<in>[^\n]*?)(?<!\\)(?P=q)",
    re.IGNORECASE | re.DOTALL,
)
_OPENED = re.compile(r"[bruf]{0,2}\\*[\"'](?P<inner>[^\n]*)", re.IGNORECASE)
_BARE = re.compile(r"(?:(?:bearer|basic|digest|token)\s+)?(?:(?!&\w+=)[^\s'\"])+", re.IGNORECASE)
_LINE = re.compile(r"[^\n'\"]+")
# Headers whose value is the rest of the line.
_TO_THE_END = ("authorization", "cookie")
# Nothing to hide, and worth seeing.
_PLAIN = {"", "None", "null", "True", "False", "true", "false", "''", '""', MASK}
_OPENING = "([{"
_BRACKET = re.compile(r"[(\[{}\])]")

# What a text with one of the shapes has in it.
_MARKS = (
    "-----BEGIN",
    "eyJ",
    "AKIA",
    "ASIA",
    "gh",
    "glpat-",
    "xox",
    "k_live_",
    "k_test_",
    "hooks.slack",
    "Bearer ",
    "Basic ",
)


def mask_text(text: str, names: SecretNames, found: set[str] | None = None) -> str:
    """`text` with what looks like a secret masked; masking it again changes nothing. What was masked goes into `found`."""
    hidden: set[str] = set() if found is None else found

    def row(match: re.Match[str]) -> str:
        if not any(names.holds(name.strip(' "')) for name in match["names"].split(",")):
            return match[0]
        hidden.update(value.strip() for value in match["values"].split(","))
        return f"({match['names']})=({MASK})"

    def address(match: re.Match[str]) -> str:
        hidden.add(match["password"] or match["token"])
        return f"{match['user']}:{MASK}@" if match["password"] else f"{MASK}@"

    def shape(match: re.Match[str]) -> str:
        hidden.add(match[0])
        return MASK

    if "=(" in text:
        text = _ROW.sub(row, text)
    if "://" in text:
        text = _ADDRESS.sub(address, text)
    # Most arguments are a word or a number: nothing in them is called anything.
    if any(border in text for border in "=: \t") and (places := names.places(text)):
        text = _mask_named(text, names, places, hidden)
    return _SHAPES.sub(shape, text) if any(mark in text for mark in _MARKS) else text


def hide(text: str, secrets: Iterable[str]) -> str:
    """`text` without these values, however they were quoted. Shorter ones than four letters would be found everywhere."""
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) < 4 or MASK in secret:
            continue
        for spelling in (secret, repr(secret)[1:-1]):
            if spelling in text:
                text = text.replace(spelling, MASK)
    return text


def _mask_named(text: str, names: SecretNames, places: list[int], hidden: set[str]) -> str:
    done, parts = 0, []
    position = 0  # nothing before it is looked at again
    closings: dict[int, int] | None = None
    for place in places:
        if place < position:
            continue
        match = _NAME.match(text, _beginning(text, place, position))
        if match is None or not names.holds(match["name"]):
            continue
        position = match.end("name")
        # Without `=` or `:` only a quoted value, or that of a command's option, is one.
        if match["between"].isspace() and not match["name"].startswith("--") and text[match.end()] not in "\"'\\":
            continue
        if closings is None and text[match.end()] in _OPENING:
            closings = _closings(text)
        value, start, end = _value(text, match.end(), match["name"], closings or {})
        if value.strip() in _PLAIN or not names.holds(match["name"], value):
            continue
        hidden.add(value)
        parts += [text[done:start], MASK]
        done = position = end
    return "".join([*parts, text[done:]])


def _beginning(text: str, place: int, least: int) -> int:
    """Where the word begins that has a letter at `place`."""
    least = max(least, place - _LONGEST)
    while place > least and (text[place - 1].isalnum() or text[place - 1] in "_-"):
        place -= 1
    return place


def _value(text: str, start: int, name: str, closings: Mapping[int, int]) -> tuple[str, int, int]:
    """The value that begins at `start`: (it, where what is to be masked begins, where it ends). `closings` as `_closings` has them."""
    for pattern in (_QUOTED, _OPENED):
        if match := pattern.match(text, start):
            group = next(key for key in ("inner", "in") if key in match.re.groupindex and match.start(key) >= 0)
            return match[group], match.start(group), match.end(group)
    if text[start] in _OPENING:
        # To the line's end where it is never closed: a text that was cut.
        end = closings.get(start) or text.find("\n", start)
        end = len(text) if end < 0 else end
        return text[start:end], start, end
    pattern = _LINE if name.casefold().endswith(_TO_THE_END) else _BARE
    match = pattern.match(text, start)
    value = match[0].rstrip(")]},;.") if match else ""
    return value, start, start + len(value)


def _closings(text: str) -> dict[int, int]:
    """Where each bracket that is closed again is: place of the opening one -> place after the closing one.

    Of the whole text at once: looked for from each bracket on its own, 32 kB of brackets that are never closed took four seconds.
    """
    opened, closed = [], {}
    for bracket in _BRACKET.finditer(text):
        if bracket[0] in _OPENING:
            opened.append(bracket.start())
        elif opened:
            closed[opened.pop()] = bracket.end()
    return closed
