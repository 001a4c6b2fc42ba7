"""What people read, and its translations: found in the code, kept in .po files, compiled to .mo, without the gettext tools.

A message is (context-free) one string, or two where there is a plural. The English words are the key. The first line of a
pipeline's docstring is one, too.
"""

import ast
import re
import struct
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from django.conf import settings
from django.utils.translation.template import templatize

ROOMS = ("config", "deadletters", "pipelines", "schedules", "monitoring")
# The name of the function -> how many of its first arguments are the message.
FUNCTIONS = {"_": 1, "gettext": 1, "gettext_lazy": 1, "gettext_noop": 1, "ngettext": 2, "ngettext_lazy": 2}
_CALL = re.compile(r"\b(ngettext|gettext|_)\(((?:\s*,?\s*u?(?:'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"))+)")
_LITERAL = re.compile(r"u?('(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\")")
_PLACEHOLDER = re.compile(r"%\(\w+\)[a-z]|%[sd]|\{[a-z]\}")

NOWHERE = "(not in the code)"

# English of one, or of one and many.
Message = tuple[str, ...]
# Japanese has one form for any number.
HEADER = """Project-Id-Version: redeliver
Language: ja
MIME-Version: 1.0
Content-Type: text/plain; charset=UTF-8
Content-Transfer-Encoding: 8bit
Plural-Forms: nplurals=1; plural=0;
"""


def found(root: Path | None = None) -> dict[Message, str]:
    """{message: where it stands first} of all Python code and templates of ours."""
    root = root or settings.BASE_DIR
    messages: dict[Message, str] = {}
    for room in ROOMS:
        for path in sorted((root / room).rglob("*.py")):
            if "migrations" not in path.parts:
                for message in _of_python(path.read_text()):
                    messages.setdefault(message, str(path.relative_to(root)))
    for path in sorted((root / "templates").rglob("*.html")):
        for message in _of_template(path.read_text()):
            messages.setdefault(message, str(path.relative_to(root)))
    return messages


def missing(wanted: Iterable[Message], known: Mapping[Message, str]) -> list[Message]:
    """Those without a translation."""
    return [message for message in wanted if not known.get(message)]


def broken(known: Mapping[Message, str]) -> list[Message]:
    """Those whose translation names other placeholders than the message: they would fail when they are shown."""
    return [
        message
        for message, text in known.items()
        if text and not set(_PLACEHOLDER.findall(text)) <= _placeholders(message)
    ]


def read_po(text: str) -> dict[Message, str]:
    """{message: its translation} of a .po file; the header is none."""
    known: dict[Message, str] = {}
    for block in re.split(r"\n\s*\n", text):
        fields: dict[str, str] = {}
        name = ""
        for line in block.splitlines():
            if match := re.match(r'(msgid_plural|msgid|msgstr)(?:\[\d\])?\s+"(.*)"$', line):
                name = match[1]
                fields[name] = _unquoted(match[2])
            elif name and (match := re.match(r'"(.*)"$', line)):
                fields[name] += _unquoted(match[1])
        if fields.get("msgid"):
            plural = (fields["msgid_plural"],) if "msgid_plural" in fields else ()
            known[fields["msgid"], *plural] = fields.get("msgstr", "")
    return known


def write_po(known: Mapping[Message, str], where: Mapping[Message, str]) -> str:
    """The .po file of these messages, in the order of where they stand; those that stand nowhere come last."""
    header = "".join(f'"{line}\\n"\n' for line in HEADER.strip().splitlines())
    blocks = [f'msgid ""\nmsgstr ""\n{header}']
    for message in sorted(known, key=lambda message: (message not in where, where.get(message, ""), message)):
        lines = [f"#: {where.get(message, NOWHERE)}", f"msgid {_quoted(message[0])}"]
        if len(message) > 1:
            lines += [f"msgid_plural {_quoted(message[1])}", f"msgstr[0] {_quoted(known.get(message, ''))}"]
        else:
            lines += [f"msgstr {_quoted(known.get(message, ''))}"]
        blocks.append("\n".join(lines) + "\n")
    return "\n".join(blocks)


def compile_mo(known: Mapping[Message, str]) -> bytes:
    """The .mo file: gettext's binary format, little-endian, sorted, without a hash table."""
    entries = {"": HEADER, **{"\0".join(message): text for message, text in known.items() if text}}
    pairs = sorted((key.encode(), text.encode()) for key, text in entries.items())
    start = 28 + 16 * len(pairs)
    keys, texts = b"", b""
    for key, _text in pairs:
        keys += key + b"\0"
    offsets_of_keys, offsets_of_texts, at = [], [], start
    for key, _text in pairs:
        offsets_of_keys += [len(key), at]
        at += len(key) + 1
    for _key, text in pairs:
        offsets_of_texts += [len(text), at]
        at += len(text) + 1
        texts += text + b"\0"
    head = struct.pack("<7I", 0x950412DE, 0, len(pairs), 28, 28 + 8 * len(pairs), 0, 0)
    return head + struct.pack(f"<{4 * len(pairs)}I", *offsets_of_keys, *offsets_of_texts) + keys + texts


def _of_python(source: str) -> Iterator[Message]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef) and any(_name(one) == "pipeline" for one in node.decorator_list):
            yield from ((line,) for line in (ast.get_docstring(node) or "").splitlines()[:1])
        if not isinstance(node, ast.Call):
            continue
        name = _name(node)
        arguments = node.args[: FUNCTIONS.get(name, 0)]
        texts = [part.value for part in arguments if isinstance(part, ast.Constant) and isinstance(part.value, str)]
        if texts and len(texts) == FUNCTIONS[name] and texts[0]:
            yield tuple(texts)


def _name(call: ast.expr) -> str:
    """`f` of f(…) and of x.f(…)."""
    function = getattr(call, "func", None)
    return function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")


def _of_template(source: str) -> Iterator[Message]:
    for match in _CALL.finditer(templatize(source)):
        texts = [ast.literal_eval(literal) for literal in _LITERAL.findall(match[2])]
        yield tuple(texts[:2] if match[1] == "ngettext" else texts[:1])


def _placeholders(message: Message) -> set[str]:
    return {placeholder for text in message for placeholder in _PLACEHOLDER.findall(text)}


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def _unquoted(text: str) -> str:
    return text.replace('\\"', '"').replace("\\n", "\n").replace("\\\\", "\\")
