"""What a task's failure was propagated to, read off its message. Pure.

Celery writes FAILURE over everything that would have come after a dead task: the rest of its chain, the body of its chord, the
chain behind that body, and so on up. All of it has to be undone before the task is replayed, or whoever waits gets the old failure.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Part(NamedTuple):
    """A task as one part of a chord's header: its chord, the id that the chord waits for, and its place there (None: not said)."""

    group_id: str
    task_id: str
    place: int | None


@dataclass(slots=True)
class Downstream:
    """Tasks and parts of chords that the death reached, in the order in which they would run, each once."""

    task_ids: list[str] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)
    names: list[str] = field(default_factory=list)

    @property
    def group_ids(self) -> list[str]:
        """The chords."""
        return list(dict.fromkeys(part.group_id for part in self.parts))

    def add_task(self, task_id: object, name: object = "") -> None:
        """Note one task."""
        if isinstance(task_id, str) and task_id not in self.task_ids:
            self.task_ids.append(task_id)
            if isinstance(name, str) and name:
                self.names.append(name)

    def add_part(self, group_id: object, task_id: object, index: object) -> None:
        """Note one part of a chord."""
        if not isinstance(group_id, str) or not isinstance(task_id, str) or not group_id:
            return
        part = Part(group_id, task_id, index if isinstance(index, int) else None)
        if part not in self.parts:
            self.parts.append(part)


def downstream(embed: Mapping[str, Any], own: Part) -> Downstream:
    """Everything after the task whose message embeds `embed`, and which is itself the part `own` if that chord is embedded."""
    found = Downstream()
    # Celery stores a chain's remainder last step first.
    for step in reversed(_listed(embed.get("chain"))):
        _walk(step, found)
    if chord := embed.get("chord"):
        found.add_part(*own)
        _walk(chord, found)
    return found


def behind(signature: Any) -> Downstream:
    """What fails with this signature: its task, and everything after it."""
    found = Downstream()
    _walk(signature, found)
    return found


def _walk(signature: Any, found: Downstream) -> None:
    if not isinstance(signature, Mapping):
        return
    options, kwargs = _mapped(signature.get("options")), _mapped(signature.get("kwargs"))
    kind = signature.get("subtask_type")
    found.add_task(options.get("task_id"), signature.get("task") if kind is None else "")
    if kind == "chord":
        _walk(kwargs.get("body"), found)
    elif kind in {"group", "chain"}:
        for task in _listed(kwargs.get("tasks")):
            _walk(task, found)
    for step in reversed(_listed(options.get("chain"))):
        _walk(step, found)
    if chord := options.get("chord"):
        found.add_part(options.get("group_id"), options.get("task_id"), options.get("group_index"))
        _walk(chord, found)


def _listed(value: object) -> list[Any]:
    # Anybody may have written the message.
    return value if isinstance(value, list) else []


def _mapped(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
