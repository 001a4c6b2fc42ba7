"""One log format for Django and Celery, with the running task's id and name bound to every line."""

import logging
import logging.config
import re
from typing import Any

from celery import current_task

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class TaskFilter(logging.Filter):
    """Puts `task_id` and `task` on each record that is logged while a task runs."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Always true; only adds."""
        request = getattr(current_task, "request", None) if current_task else None
        record.task_id = getattr(record, "task_id", None) or getattr(request, "id", None) or ""
        record.task = getattr(record, "task", None) or getattr(request, "task", None) or ""
        return True


class ConsoleFormatter(logging.Formatter):
    """`12:00:01 INFO deadletters.capture.capture dead_letter.captured cause=exception [task id]` for people."""

    STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "task", "task_id", "data"}

    def format(self, record: logging.LogRecord) -> str:
        """The line, with `extra` as key=value behind the message."""
        extra = " ".join(
            f"{key}={_one_line(str(value))}" for key, value in record.__dict__.items() if key not in self.STANDARD
        )
        line = super().format(record)
        head, newline, rest = line.partition("\n")
        task = f" [{_one_line(str(record.__dict__['task_id']))}]" if record.__dict__.get("task_id") else ""
        return f"{head}{' ' + extra if extra else ''}{task}{newline}{rest}"


def _one_line(text: str) -> str:
    """`text` with control characters as visible escapes: the name of a task that somebody sent must not write lines of its own."""
    return _CONTROL.sub(lambda found: repr(found[0])[1:-1], text)


def configure(options: dict[str, Any]) -> None:
    """Set up logging once. `options`: {"level": "INFO", "format": "json" | "console"}."""
    logging.config.dictConfig(described(**options))


def described(*, level: str, format: str) -> dict[str, Any]:  # noqa: A002  (logging's own word)
    """The one configuration, as `logging.config.dictConfig` takes it."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "filters": {"task": {"()": TaskFilter}},
        "formatters": {
            "console": {
                "()": "deadletters.secrets.redact_log.RedactingFormatter",
                "of": "config.logging.ConsoleFormatter",
                "fmt": "%(asctime)s %(levelname)s %(name)s %(message)s",
                "datefmt": "%H:%M:%S",
            },
            "json": {
                "()": "deadletters.secrets.redact_log.RedactingFormatter",
                "of": "pythonjsonlogger.json.JsonFormatter",
                "fmt": "%(asctime)s %(levelname)s %(name)s %(message)s %(task_id)s %(task)s",
            },
        },
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": format, "filters": ["task"]}},
        "root": {"handlers": ["stderr"], "level": level},
        "loggers": {
            "django.server": {"level": "WARNING"},
            "httpx": {"level": "WARNING"},  # it logs whole addresses, which may carry tokens
            "httpcore": {"level": "WARNING"},
            "botocore": {"level": "WARNING"},
            "PIL": {"level": "INFO"},
            "flower": {"level": "WARNING"},
            "flower.inspector": {"level": "ERROR"},  # it warns of each worker that is not there yet
            # gunicorn brings handlers of its own; its access log is off.
            "gunicorn.error": {"handlers": [], "propagate": True},
        },
    }
