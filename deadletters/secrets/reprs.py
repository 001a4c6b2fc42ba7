"""The arguments' text that Celery sends with a message, for logs, events and results: without secrets."""

import ast
from typing import Any

from celery import signals
from celery.utils.saferepr import saferepr

from deadletters.secrets.redact import TooBig, called_for_each, redactor
from deadletters.secrets.redact_text import MASK

# Looking at more values than this would be felt by whoever sends; Celery's text shows fewer.
_MOST = 2_000
LENGTH = 1024  # Celery's own limit


def on_before_task_publish(sender: Any = "", body: Any = None, headers: Any = None, **_: Any) -> None:
    """In the process that sends: masked at the source, the text is harmless wherever it goes."""
    if (
        not isinstance(headers, dict)
        or "argsrepr" not in headers
        or not isinstance(body, (list, tuple))
        or len(body) < 2
    ):
        return
    found: set[str] = set()
    try:
        args, kwargs = redactor().arguments(str(sender), body[0], body[1], found, most=_MOST)
    except TooBig:
        name = called_for_each(str(sender), body[1]) or str(sender)
        headers["argsrepr"], headers["kwargsrepr"] = masked_reprs(name, headers["argsrepr"], headers.get("kwargsrepr"))
        return
    if found:
        headers["argsrepr"] = saferepr(tuple(args), LENGTH)
        headers["kwargsrepr"] = saferepr(kwargs, LENGTH)


def masked_reprs(task_name: str, argsrepr: Any, kwargsrepr: Any) -> tuple[str, str]:
    """Both texts as people may see them, of whoever's message; a text that cannot be read again is masked whole if the task has a rule."""
    mask = redactor()
    texts = [text if isinstance(text, str) else "" for text in (argsrepr, kwargsrepr)]
    if not any(mask.rule(task_name)):
        return mask.text(texts[0]), mask.text(texts[1])
    try:
        args, kwargs = (ast.literal_eval(text or empty) for text, empty in zip(texts, ("()", "{}"), strict=True))
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return MASK, MASK
    shown_args, shown_kwargs = mask.arguments(task_name, args, kwargs)
    return saferepr(tuple(shown_args), LENGTH) if texts[0] else "", saferepr(shown_kwargs, LENGTH) if texts[1] else ""


def connect() -> None:
    """Listen to what this process publishes."""
    signals.before_task_publish.connect(on_before_task_publish, weak=False, dispatch_uid="deadletters.secrets.reprs")
