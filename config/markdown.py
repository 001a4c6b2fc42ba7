"""The part of Markdown that docs/ is written in, as HTML: headings, paragraphs, lists, tables, code, links. Pure.

Everything is escaped first, so a file can hold no markup of its own.
"""

import re
from collections.abc import Iterator

from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe
from django.utils.text import slugify

_CODE = re.compile(r"`([^`]+)`")
_BOLD = re.compile(r"\*\*(.+?)\*\*")
_EMPHASIS = re.compile(r"\*(.+?)\*")
_LINK = re.compile(r"\[([^\]]+)\]\(([^)\s]+)\)")
_HEADING = re.compile(r"(#{1,4}) +(.*)")
_ITEM = re.compile(r"(?:-|\d+\.) +(.*)")
# A browser would break --this after its hyphens.
_OPTION, _WHOLE = re.compile(r"(?<!\S)--?\w[\w-]*"), r"<span class='o-nowrap'>\g<0></span>"
_ID = re.compile(r' id="([^"]*)"')
_SAFE = re.compile(r"(?:https?://|#|[\w./-]+$)")


def render(text: str) -> SafeString:
    """The whole file. `## A word` is the anchor #a-word, and a row of a table below it that begins with `one` is #a-word-one."""
    made, section = [], ""
    for block in _joined(re.split(r"\n\s*\n", text.strip("\n"))):
        lines = block.splitlines()
        if match := _HEADING.match(lines[0]):
            section = anchor(match[2])
        made.append(_block(lines, section))
    return mark_safe("\n".join(made))  # noqa: S308  (every part is escaped)


def translated(text: str, original: str) -> SafeString:
    """A translation, with the anchors of its original: the first heading or row has that of the first, and so on."""
    anchors = iter(_ID.findall(render(original)))
    return mark_safe(_ID.sub(lambda _own: f' id="{next(anchors, "")}"', render(text)))  # noqa: S308  (every part is escaped)


def headings(text: str) -> list[tuple[str, str]]:
    """(anchor, words) of the second level."""
    return [(anchor(line[3:]), line[3:].replace("`", "")) for line in text.splitlines() if line.startswith("## ")]


def anchor(words: str) -> str:
    """What a heading is called in an address."""
    return slugify(words)


def _joined(blocks: list[str]) -> Iterator[str]:
    """Indented blocks with an empty line in between are one."""
    held: list[str] = []
    for block in blocks:
        if block.startswith("    "):
            held.append(block)
            continue
        if held:
            yield "\n\n".join(held)
            held = []
        yield block
    if held:
        yield "\n\n".join(held)


def _block(lines: list[str], section: str) -> str:
    first = lines[0]
    if match := _HEADING.match(first):
        level, words = len(match[1]), match[2]
        rest = _block(lines[1:], section) if lines[1:] else ""
        return f'<h{level} id="{anchor(words)}">{_inline(words)}</h{level}>{rest}'
    if first.startswith("    "):
        return f"<pre class='o-code' tabindex='0'>{escape(chr(10).join(line[4:] for line in lines))}</pre>"
    if first.startswith("|"):
        return _table(lines, section)
    if _ITEM.match(first):
        kind = "ol" if first[0].isdigit() else "ul"
        return f"<{kind}>{''.join(f'<li>{_inline(item)}</li>' for item in _items(lines))}</{kind}>"
    return f"<p>{_inline(' '.join(lines))}</p>"


def _items(lines: list[str]) -> Iterator[str]:
    """Each list item with its continuation lines."""
    item = ""
    for line in lines:
        if match := _ITEM.match(line):
            if item:
                yield item
            item = match[1]
        else:
            item += f" {line.strip()}"
    yield item


def _table(lines: list[str], section: str) -> str:
    rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in lines]
    head = "".join(f"<th scope='col'>{_inline(cell)}</th>" for cell in rows[0])
    # On a phone, where the cells of a row stand under each other.
    labels = [escape(cell.replace("`", "")) for cell in rows[0]]
    body = "".join(
        f'<tr id="{section}-{anchor(row[0])}">'
        + "".join(f"<td data-label='{label}'>{_inline(cell)}</td>" for label, cell in zip(labels, row, strict=True))
        + "</tr>"
        for row in rows[2:]
    )
    return f"<table class='o-table o-stack'><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _inline(words: str) -> str:
    """Code first: nothing inside of it means anything."""
    parts = _CODE.split(words)
    return "".join(
        f"<code class='o-mono'>{_OPTION.sub(_WHOLE, escape(part))}</code>" if place % 2 else _marked(part)
        for place, part in enumerate(parts)
    )


def _marked(words: str) -> str:
    safe = _EMPHASIS.sub(r"<em>\1</em>", _BOLD.sub(r"<b>\1</b>", str(escape(words))))

    def link(match: re.Match[str]) -> str:
        return f'<a href="{match[2]}">{match[1]}</a>' if _SAFE.match(match[2]) else match[1]

    return _LINK.sub(link, safe)
