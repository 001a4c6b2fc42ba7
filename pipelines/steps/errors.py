"""How a step fails: for now, for good, or because it asked too often.

Each takes its sentence as the first argument and nothing that is not a plain value, so that it survives the way from a worker's child
process to its parent, and into the result store.
"""


class StepError(Exception):
    """A step could not do its work. The text is for people: what happened, to what, what to do next."""


class Transient(StepError):
    """The same call may work in a moment."""


class Permanent(StepError):
    """The same call will fail again until somebody changes something."""


class RateLimited(StepError):
    """The other side asks us to wait. `retry_after` is in seconds; None: it did not say how long."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message, retry_after)
        self.retry_after = retry_after

    def __str__(self) -> str:
        return str(self.args[0])


class TimedOut(Transient):
    """The other side took too long."""


class Unreachable(Transient):
    """No connection, or one that broke."""


class ServerFailed(Transient):
    """The server answered that it is not well (5xx)."""


class StorageAway(Transient):
    """The storage did not take or give a file."""


class BadAddress(Permanent):
    """The address is not one we call."""


class PrivateAddress(Permanent):
    """The address leads into our own network."""


class NotFound(Permanent):
    """The server has no such file (404, 410)."""


class Refused(Permanent):
    """The server, or the storage, does not let us."""


class NotAnImage(Permanent):
    """What came is no image that we can read."""


class TooLarge(Permanent):
    """More bytes, or more pixels, than we take."""


class FileMissing(Permanent):
    """A file that an earlier step made is gone."""
