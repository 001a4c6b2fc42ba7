"""No secret in a log line: a formatter around the one that prints it."""

import contextlib
import logging
import weakref
from functools import partial
from typing import Any

from celery import current_task
from django.utils.module_loading import import_string

from deadletters.secrets.redact import TooBig, redactor
from deadletters.secrets.redact_text import hide

# Arguments of more values are not looked through for each task that logs.
_MOST = 2_000
_OWN = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "data"}


class RedactingFormatter(logging.Formatter):
    """Masks message, exception and extra values of a record before the formatter named `of` prints it."""

    def __init__(self, of: str, **options: Any) -> None:
        super().__init__()
        # The run of a task, and its secrets.
        self._known: tuple[weakref.ref[Any] | None, set[str]] = (None, set())
        self._inner: logging.Formatter = import_string(of)(**options)

    def format(self, record: logging.LogRecord) -> str:
        return self._inner.format(self._masked(record))

    def _masked(self, record: logging.LogRecord) -> logging.LogRecord:
        """A copy: other handlers get the record as it was."""
        mask, secrets = redactor(), self._secrets()
        text = partial(_without, secrets=secrets)
        shown = logging.makeLogRecord(record.__dict__)
        shown.msg, shown.args = text(record.getMessage()), None
        if record.exc_info:
            shown.exc_text = record.exc_text or self._inner.formatException(record.exc_info)
            shown.exc_info = None
        if shown.exc_text:
            shown.exc_text = text(shown.exc_text)
        # Celery adds a copy of everything it knows of a failed task, arguments and traceback included.
        shown.__dict__.pop("data", None)
        extra = {name: _plain(value) for name, value in record.__dict__.items() if name not in _OWN}
        shown.__dict__.update(
            {name: text(value) if isinstance(value, str) else value for name, value in mask.value(extra).items()}
        )
        return shown

    def _secrets(self) -> set[str]:
        """The secret arguments of the task that runs here: it, and what it calls, may log them under any name."""
        request = getattr(current_task, "request", None) if current_task else None
        if request is None or not request.id:
            return set()
        run, known = self._known
        # Not by its id: a retry or a replacement of a task has the same, and may have other arguments.
        if run is None or run() is not request:
            found: set[str] = set()
            with contextlib.suppress(TooBig):
                redactor().arguments(request.task or "", request.args or [], request.kwargs or {}, found, most=_MOST)
            known = found
            self._known = weakref.ref(request), known
        return known


def _without(text: str, *, secrets: set[str]) -> str:
    return hide(redactor().text(text), secrets)


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, (str, int, float, dict, list, tuple)) else str(value)
