"""How one variable is written: types of the environment that are more than a text or a number."""

import base64
import json
import logging
from collections.abc import Callable
from typing import Annotated
from urllib.parse import urlsplit
from zoneinfo import available_timezones

from pydantic import AfterValidator, BeforeValidator
from pydantic_settings import NoDecode

# The states a letter is pruned in. One that is being replayed never is.
PRUNED_STATES = ("open", "resolved", "discarded")


def split(value: object) -> object:
    """`a, b` to its parts."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def by_state(value: object) -> object:
    """`resolved=30, discarded=90` to numbers by state."""
    if not isinstance(value, str):
        return value
    numbers = {}
    for part in filter(None, (part.strip() for part in value.split(","))):
        state, _equals, number = (piece.strip() for piece in part.partition("="))
        if state not in PRUNED_STATES or not number.isdecimal() or int(number) < 1:
            raise ValueError(f"{part!r} is none of {', '.join(f'{state}=N' for state in PRUNED_STATES)}")
        numbers[state] = int(number)
    return numbers


def within_the_calendar(days: dict[str, int]) -> dict[str, int]:
    """Beyond it PostgreSQL's calendar and Python's disagree about the year."""
    if any(number > 100_000 for number in days.values()):
        raise ValueError("100000 days are the most")
    return days


def usable_keys(keys: list[str]) -> list[str]:
    """Keys as Fernet takes them. A wrong one is not repeated: it may be a key with one letter missing."""
    for number, key in enumerate(keys, 1):
        try:
            usable = len(base64.urlsafe_b64decode(key)) == 32
        except ValueError:
            usable = False
        if not usable:
            raise ValueError(f"number {number} is no key; manage.py reseal_dead_letters --new-key makes one")
    return keys


def from_json(value: object) -> object:
    """JSON to what it says; here, for pydantic's own reader says no more than that it could not read."""
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError as problem:
        raise ValueError(f"it is no JSON ({problem})") from None


def known_level(name: str) -> str:
    """`name` in capitals, if logging knows such a level."""
    level = name.strip().upper()
    if level not in logging.getLevelNamesMapping():
        raise ValueError(f"{name!r} is no level; write it like INFO, WARNING or ERROR")
    return level


def known_zone(name: str) -> str:
    """`name`, if it is empty or a time zone."""
    if name and name not in available_timezones():
        raise ValueError(f"{name!r} is no time zone; write it like Asia/Tokyo or Europe/Berlin")
    return name


def address_of(*schemes: str) -> Callable[[str], str]:
    """A check that lets through nothing, or the address of one server. It does not repeat what is wrong: it holds a password."""

    def checked(url: str) -> str:
        if not url:
            return url
        if url.split("://", maxsplit=1)[0] not in schemes:
            raise ValueError(f"must begin with {', '.join(f'{scheme}://' for scheme in schemes)}")
        try:
            usable = urlsplit(url).port != 0 and ";" not in url
        except ValueError:
            usable = False
        if not usable:
            raise ValueError("must be the address of one server; write / @ : # in a password as %2F %40 %3A %23")
        return url

    return checked


TimeZone = Annotated[str, AfterValidator(known_zone)]
Level = Annotated[str, AfterValidator(known_level)]
Database = Annotated[str, AfterValidator(address_of("postgres", "postgresql"))]
Broker = Annotated[str, AfterValidator(address_of("redis", "rediss", "amqp", "amqps", "pyamqp"))]
Redis = Annotated[str, AfterValidator(address_of("redis", "rediss"))]
# Comma-separated in the environment: NAME=a,b,c
List = Annotated[list[str], NoDecode, BeforeValidator(split)]
Keys = Annotated[list[str], NoDecode, BeforeValidator(split), AfterValidator(usable_keys)]
MaskedArguments = Annotated[dict[str, list[str | int]], NoDecode, BeforeValidator(from_json)]
Policies = Annotated[dict[str, dict[str, float]], NoDecode, BeforeValidator(from_json)]
Numbers = Annotated[dict[str, int], NoDecode, BeforeValidator(by_state)]
Days = Annotated[dict[str, int], NoDecode, BeforeValidator(by_state), AfterValidator(within_the_calendar)]


def in_url(host: str) -> str:
    """`host` as it stands before `:port`."""
    return f"[{host}]" if ":" in host else host
