"""Pipelines that only these tests know, each a shape of trouble."""

import pytest
from celery import chain, chord, group

from pipelines.registry import pipeline
from tests.tasks import add, collect, die_unless, echo, sleep


@pipeline(name="test-mends")
def mends(path: str, width: int = 2):
    """One member of a chord dies unless a file is there."""
    return chain(echo.si(1), chord([die_unless.si(path), *(echo.si(n) for n in range(width))], collect.s()), echo.s())


@pipeline(name="test-sleeps")
def sleeps(number: int = 3, seconds: float = 1):
    """Sleeps in a row."""
    return chain(*(sleep.si(seconds) for _ in range(number)))


@pipeline(name="test-wide")
def wide(number: int = 20, queue: str = "default"):
    """A wide group."""
    return group(add.s(n, n).set(queue=queue) for n in range(number))


@pipeline(name="test-broken")
def broken():
    """A canvas that no broker takes."""
    return echo.s(object())


@pipeline(name="test-no-canvas")
def no_canvas():
    """Not a canvas."""
    return 3


@pipeline(name="test-secret")
def secret(password: str):
    """Knows a password."""
    return echo.si(1)


@pytest.fixture
def mended(folder):
    """The path of the file that test-mends waits for."""
    return folder / "mended"
