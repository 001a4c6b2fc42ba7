"""What people and logs may see of a task's arguments: values whose name, task or look says "secret" are masked.

Masked is what is shown, logged and sent to other tools; a replay sends the true message.
"""

import inspect
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from celery import current_app
from celery.utils.saferepr import saferepr
from django.conf import settings

from deadletters.secrets.redact_names import SecretNames, is_number
from deadletters.secrets.redact_text import MASK, hide, mask_text

# What is nested deeper is no argument that anybody reads.
_DEEPEST = 60
# So many letters of a text are as much to look at as one more value.
_TEXT = 1_000
# The members of a {"name": "password", "value": …} pair.
_NAMING, _VALUE = ("name", "key", "field", "Name", "Key"), ("value", "Value")
# Celery's own tasks that call another one, `task`, for each item of `it`: with the item, or with its items.
_WITH_ITEM, _WITH_ITEMS = "celery.map", ("celery.starmap", "celery.chunks")

Rule = Collection[str | int]


class TooBig(Exception):
    """More values than the caller wanted to look at."""


class Redactor:
    """Masks what is called by a secret name, and what a task's own rule names (arguments by name, or by position from 0)."""

    def __init__(
        self,
        names: SecretNames | Iterable[str],
        rules: Mapping[str, Rule],
        task_of: Callable[[str], Any] = lambda _name: None,
    ) -> None:
        self.names = names if isinstance(names, SecretNames) else SecretNames(names)
        self._rules = rules
        self._task_of = task_of
        self._of_tasks: dict[str, tuple[frozenset[str], frozenset[int]]] = {}

    def with_rules(self, rules: Mapping[str, Rule]) -> "Redactor":
        """The same, by these rules too: those of a worker that knows tasks which this process does not."""
        if not rules:
            return self
        joined = {name: {*self._rules.get(name, ()), *rules.get(name, ())} for name in (*self._rules, *rules)}
        return Redactor(self.names, joined, self._task_of)

    def text(self, text: str, found: set[str] | None = None) -> str:
        """`text` with what looks like a secret masked. What was masked is added to `found`."""
        return mask_text(text, self.names, found)

    def value(self, value: Any, found: set[str] | None = None, *, most: int | None = None) -> Any:
        """`value` (as JSON has it) with secrets masked at any depth.

        Raises:
            TooBig: it holds more than `most` values, or texts as long.
        """
        return _Walk(self, set() if found is None else found, most).value(value, 0)

    def arguments(
        self, task_name: str, args: Any, kwargs: Any, found: set[str] | None = None, *, most: int | None = None
    ) -> tuple[Any, Any]:
        """The same for what a task is called with, by the task's rules and its parameters' names, too.

        Raises:
            TooBig: they hold more than `most` values, or texts as long.
        """
        return _Walk(self, set() if found is None else found, most).arguments(task_name, args, kwargs, 0)

    def error(self, text: str, task_name: str, args: Any, kwargs: Any) -> str:
        """What was said when this task failed with these arguments: masked, also where it repeats a secret one."""
        found: set[str] = set()
        self.arguments(task_name, args, kwargs, found)
        return hide(self.text(text), found)

    def rules_of(self, task_name: str, kwargs: Any, embed: Any) -> dict[str, list[str | int]]:
        """The rules of this task, of the one that it calls for each item, and of those that its message embeds, for whoever does not know them."""
        called = called_for_each(task_name, kwargs)
        rules = {name: self.rule(name) for name in {task_name, called, *_tasks_in(embed)}}
        return {
            name: [*sorted(words), *sorted(positions)]
            for name, (words, positions) in rules.items()
            if words or positions
        }

    def headers(self, headers: Any, args: Any = None, kwargs: Any = None, found: set[str] | None = None) -> Any:
        """A message's headers; the arguments that Celery repeats there are replaced by these, which are masked already."""
        repeated = {"argsrepr": args, "kwargsrepr": kwargs}
        if not isinstance(headers, dict):
            return self.value(headers, found)
        shown = self.value({name: value for name, value in headers.items() if name not in repeated}, found)
        texts = {
            name: MASK if value is None else saferepr(value) for name, value in repeated.items() if name in headers
        }
        return {**shown, **texts}

    def rule(self, task_name: str) -> tuple[frozenset[str], frozenset[int]]:
        """(names, positions) of the arguments that this task says are secret, or whose parameter has a secret name."""
        known = self._of_tasks.get(task_name)
        if known is None:
            task = self._task_of(task_name)
            wanted = {*self._rules.get(task_name, ()), *(getattr(task, "redact", None) or ())}
            names = frozenset(item for item in wanted if isinstance(item, str))
            positions = {item for item in wanted if isinstance(item, int)}
            parameters = _parameters(task)
            positions |= {at for at, name in enumerate(parameters) if name in names or self.names.holds(name)}
            names |= {parameters[at] for at in positions if at < len(parameters)}
            known = names, frozenset(positions)
            if task is not None or task_name in self._rules:
                self._of_tasks[task_name] = known
        return known


class _Walk:
    """One walk through one value."""

    def __init__(self, redactor: Redactor, found: set[str], most: int | None) -> None:
        self._redactor, self._found, self._left = redactor, found, most

    def value(self, value: Any, depth: int) -> Any:
        if self._left is not None:
            self._left -= 1 + (len(value) // _TEXT if isinstance(value, str) else 0)
            if self._left < 0:
                raise TooBig
        if isinstance(value, str):
            return self._redactor.text(value, self._found) if value else value
        if isinstance(value, (dict, list, tuple)) and depth > _DEEPEST:
            return self._hidden(value)
        if isinstance(value, dict):
            return self._mapping(value, depth)
        return self._sequence(value, depth) if isinstance(value, (list, tuple)) else value

    def arguments(self, task_name: str, args: Any, kwargs: Any, depth: int) -> tuple[Any, Any]:
        names, positions = self._redactor.rule(task_name)
        shown_args, shown_kwargs = self.value(args, depth), self.value(kwargs, depth)
        if (called := called_for_each(task_name, kwargs)) and isinstance(kwargs.get("it"), (list, tuple)):
            shown_kwargs["it"] = [self._item(task_name, called, item, depth + 1) for item in kwargs["it"]]
        if positions and isinstance(args, (list, tuple)):
            shown_args = [
                self._hidden(true) if at in positions else shown
                for at, (true, shown) in enumerate(zip(args, shown_args, strict=True))
            ]
        if names and isinstance(kwargs, dict):
            shown_kwargs.update({name: self._hidden(kwargs[name]) for name in names if name in kwargs})
        return shown_args, shown_kwargs

    def _item(self, task_name: str, called: str, item: Any, depth: int) -> Any:
        if task_name == _WITH_ITEM:
            return self.arguments(called, [item], {}, depth)[0][0]
        return self.arguments(called, item, {}, depth)[0]

    def _mapping(self, value: dict[Any, Any], depth: int) -> dict[Any, Any]:
        holds = self._redactor.names.holds
        shown = {
            key: self._hidden(item) if isinstance(key, str) and holds(key, item) else self.value(item, depth + 1)
            for key, item in value.items()
        }
        if any(isinstance(value.get(naming), str) and holds(value[naming]) for naming in _NAMING):
            shown.update({key: self._hidden(value[key]) for key in _VALUE if key in value})
        # A signature in a chain, a chord or a callback: another task's arguments.
        if isinstance(task := value.get("task"), str) and "args" in value and "kwargs" in value:
            shown["args"], shown["kwargs"] = self.arguments(task, value["args"], value["kwargs"], depth + 1)
        return shown

    def _sequence(self, value: list[Any] | tuple[Any, ...], depth: int) -> list[Any]:
        holds = self._redactor.names.holds
        shown, after = [], False  # after: the item before this one was an option like --password
        pair = len(value) == 2 and isinstance(value[0], str) and holds(value[0], value[1])
        for at, item in enumerate(value):
            secret = after or (pair and at == 1)
            shown.append(self._hidden(item) if secret else self.value(item, depth + 1))
            after = isinstance(item, str) and item.startswith("-") and holds(item.lstrip("-"))
        return shown

    def _hidden(self, value: Any) -> Any:
        if value is None or isinstance(value, bool) or value in ("", [], {}):
            return value  # nothing to hide, and worth seeing
        self._found |= _leaves(value) | {
            MASK
        }  # that something was masked is told even of what is too short to be looked for
        return MASK


def called_for_each(task_name: str, kwargs: Any) -> str:
    """The task that Celery's map, starmap or chunks calls with each item; "" for any other task."""
    if (task_name != _WITH_ITEM and task_name not in _WITH_ITEMS) or not isinstance(kwargs, dict):
        return ""
    called = kwargs.get("task")
    return str(called.get("task") or "") if isinstance(called, dict) else ""


def _leaves(value: Any) -> set[str]:
    waiting, found = [value], set()
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            waiting.extend(item.values())
        elif isinstance(item, (list, tuple)):
            waiting.extend(item)
        elif isinstance(item, str):
            found.add(item)
        elif is_number(item) and not isinstance(item, bool) and len(str(item)) > 4:
            found.add(str(item))  # a shorter number is in every traceback, as a line's
    return found


def _tasks_in(value: Any) -> set[str]:
    """The names of all tasks whose signatures are somewhere in `value`."""
    waiting, found = [value], set()
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            if isinstance(item.get("task"), str):
                found.add(item["task"])
            waiting.extend(item.values())
        elif isinstance(item, (list, tuple)):
            waiting.extend(item)
    return found


def _parameters(task: Any) -> list[str]:
    try:
        return list(inspect.signature(task.run).parameters)
    except (AttributeError, TypeError, ValueError):
        return []


def restore(edited: Any, original: Any, masked: Any) -> Any:
    """`edited` with the `original` value wherever `masked` was left as it was shown."""
    if edited == masked:
        return original
    if isinstance(edited, dict) and isinstance(original, dict) and isinstance(masked, dict):
        return {
            key: restore(item, original[key], masked[key]) if key in original and key in masked else item
            for key, item in edited.items()
        }
    if all(isinstance(each, list) and len(each) == len(edited) for each in (edited, original, masked)):
        return [restore(*three) for three in zip(edited, original, masked, strict=True)]
    return edited


_redactors: dict[tuple[Any, ...], Redactor] = {}


def redactor() -> Redactor:
    """The one that the settings ask for: DEADLETTERS_REDACT_NAMES, and DEADLETTERS_REDACT_TASKS beside each task's `redact`."""
    rules: Mapping[str, Rule] = settings.DEADLETTERS_REDACT_TASKS
    key = (*settings.DEADLETTERS_REDACT_NAMES, *((name, *rule) for name, rule in rules.items()))
    if key not in _redactors:
        _redactors[key] = Redactor(settings.DEADLETTERS_REDACT_NAMES, rules, _task)
    return _redactors[key]


def _task(name: str) -> Any:
    return current_app.tasks.get(name)
