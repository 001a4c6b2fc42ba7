"""RQ's task."""


def noop(number: int) -> int:
    """Return what it was given."""
    return number


def fail(number: int) -> None:
    """Die of what it was given."""
    raise ValueError(f"no luck with {number}")
