"""The list's tabs: one for each state, and what of the address bar stays when somebody goes from one to the next."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.db import connection
from django.utils.translation import gettext as _

from deadletters.console.listing import COUNTED, Count, KeysetChangeList, estimate
from deadletters.models import DeadLetter, State

ALL = "all"
# The parts of the address that a tab or a menu shows already.
_SHOWN = {"q", "state", "age", "queue", "task_name", "cause"}

_BY_STATE = """
    SELECT state, (
        SELECT count(*) FROM (SELECT FROM deadletters_deadletter letter WHERE letter.state = known.state LIMIT %s) capped
    )
    FROM unnest(%s::text[]) AS known(state)
"""


def count_by_state(limit: int) -> dict[str, int]:
    """How many letters are in each state, counted up to `limit`: one statement, on an index."""
    with connection.cursor() as cursor:
        cursor.execute(_BY_STATE, [limit, State.values])
        return dict(cursor.fetchall())


@dataclass(frozen=True, slots=True, kw_only=True)
class Tab:
    """One tab of the list."""

    label: str
    url: str
    count: Count | None
    current: bool


def chosen_state(params: Mapping[str, str]) -> str:
    """The state that an address asks for: open ones, unless it says otherwise or searches."""
    state = params.get("state", "")
    if state in State.values or state == ALL:
        return state
    return ALL if params.get("q") else State.OPEN


def tabs(params: Mapping[str, str]) -> Iterator[Tab]:
    """A tab for each state and one for all; other filters stay, pages don't."""
    counted = count_by_state(COUNTED + 1)
    kept = {name: value for name, value in params.items() if name not in {"state", "before", "after", "e"}}
    for state, label in [*State.choices, (ALL, _("All"))]:
        yield Tab(
            label=str(label),
            url="?" + urlencode({**kept, "state": state}),
            count=None if state == ALL else _count(state, counted[state]),
            current=chosen_state(params) == state,
        )


def _count(state: str, number: int) -> Count:
    return Count(number) if number <= COUNTED else estimate(DeadLetter.objects.filter(state=state), least=number)


class LetterChangeList(KeysetChangeList):
    """The list of letters in one state, or in all."""

    def get_filters_params(self, params: Any = None) -> dict[str, Any]:
        found: dict[str, Any] = super().get_filters_params(params)
        state = chosen_state(self.params)
        if state == ALL:
            found.pop("state", None)
        else:
            found["state"] = [state]
        return found

    @property
    def narrowed(self) -> bool:
        return super().narrowed or bool(self.narrowings)

    @property
    def narrowings(self) -> list[tuple[str, str, str]]:
        """(name, value, address without it) of each look-up that came with a link and has no menu of its own."""
        rest = {name: value for name, value in self.params.items() if name not in _SHOWN}
        return [(name, value, self.get_query_string(remove=[name])) for name, value in rest.items()]
