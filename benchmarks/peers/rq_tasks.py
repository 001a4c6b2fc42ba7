"""RQ's task."""


def noop(number: int) -> int:
    """Return what it was given."""
    return number
