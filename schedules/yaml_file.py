"""Schedules as YAML for review: one mapping a schedule, by name, without what is meant anyway."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

import yaml
from django.utils.translation import gettext as _

from schedules.models import Schedule
from schedules.spec import Spec, compact, spec_of

HEAD = "# Schedules. `manage.py import_schedules FILE --dry-run` says what this would change.\n"


# A hundred thousand schedules, each with twenty values.
MOST = 2_000_000


class BadFile(ValueError):
    """No list of schedules. str() says where."""


class _Loader(yaml.SafeLoader):
    """Refuses what a mapping says twice: the first would be lost without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002
        counts = Counter(str(key.value) for key, _value in node.value)
        if twice := [key for key, count in counts.items() if count > 1]:
            raise yaml.MarkedYAMLError(problem=_("“%s” is said twice") % twice[0], problem_mark=node.start_mark)
        return super().construct_mapping(node, deep)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:  # noqa: FBT001, FBT002
        try:
            return super().construct_object(node, deep)
        except (ValueError, OverflowError) as problem:  # 31 February, or more digits than Python reads
            raise yaml.MarkedYAMLError(problem=str(problem), problem_mark=node.start_mark) from None


class _Dumper(yaml.CSafeDumper if hasattr(yaml, "CSafeDumper") else yaml.SafeDumper):  # type: ignore[misc]
    """Never writes anchors: nobody reviews `*id001`."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002  (PyYAML's signature)
        return True


def dump(schedules: Iterable[Schedule]) -> str:
    """The text of a file."""
    specs = [compact(spec_of(schedule)) for schedule in schedules]
    return HEAD + yaml.dump(
        specs, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120, default_flow_style=False
    )


def load(text: str) -> list[Spec]:
    """The specs in a file; what is wrong with their values is found later.

    Raises:
        BadFile: no YAML, no list, or an entry without a name.
    """
    try:
        found = yaml.load(text, Loader=_Loader)  # noqa: S506  (a SafeLoader)
        if isinstance(found, list):
            # Which keys a schedule has is said later, and for each.
            _weigh([[*map(str, spec), *spec.values()] for spec in found if isinstance(spec, dict)], {})
    except yaml.YAMLError as problem:
        raise BadFile(_("It is no YAML: %s") % " ".join(str(problem).split())) from None
    except RecursionError:
        raise BadFile(_("It is nested too deeply.")) from None
    if not isinstance(found, list):
        raise BadFile(_("It must be a list of schedules, each beginning with “- name: …”."))
    for number, spec in enumerate(found, 1):
        if not isinstance(spec, dict) or not spec.get("name") or "\0" in str(spec["name"]):
            raise BadFile(_("Entry %d is no schedule with a name.") % number)
    return [{**spec, "name": str(spec["name"])} for spec in found]


def _weigh(value: Any, known: dict[int, int]) -> int:
    """How many values it is when its aliases are written out.

    Raises:
        BadFile: more than MOST, or what cannot be stored.
    """
    if isinstance(value, str):
        if any("\ud800" <= character <= "\udfff" for character in value):
            raise BadFile(_("It has half a character in %s.") % ascii(value[:50]))
        return 1
    if not isinstance(value, list | dict):
        return 1
    if id(value) in known:
        return known[id(value)]
    known[id(value)] = MOST  # what holds itself is endless
    if isinstance(value, dict) and (odd := [key for key in value if not isinstance(key, str)]):
        raise BadFile(_("The key %s is no text. Put it in quotes.") % odd[0])
    parts = [*value, *value.values()] if isinstance(value, dict) else value
    known[id(value)] = weight = 1 + sum(_weigh(part, known) for part in parts)
    if weight > MOST:
        raise BadFile(_("Its aliases make more than %d values of it.") % MOST)
    return weight
