"""What to say when PostgreSQL or the broker does not answer."""

from django.conf import settings
from django.db.utils import InterfaceError, OperationalError
from kombu.exceptions import OperationalError as BrokerError
from redis.exceptions import ConnectionError as RedisError

UNREACHABLE = (OperationalError, InterfaceError, BrokerError, RedisError)


def explain(problem: BaseException) -> str:
    """One or two sentences: which server is away and how to start it. No address with a password in it."""
    if isinstance(problem, (OperationalError, InterfaceError)):
        database = settings.DATABASES["default"]
        embedded = settings.EMBEDDED_DATABASE
        name, where, variable = (
            "PostgreSQL",
            f"{database['HOST'] or 'this machine'}:{database['PORT'] or 5432}",
            "DATABASE_URL",
        )
    else:
        embedded = settings.EMBEDDED_BROKER
        name, where, variable = "The broker", settings.BROKER_ADDRESS, "BROKER_URL"
    first_line = str(problem).strip().splitlines()[0] if str(problem).strip() else type(problem).__name__
    remedy = (
        "Start the servers with `bin/up` in another terminal."
        if embedded
        else f"Check {variable}, and that the server is running."
    )
    if isinstance(problem, OperationalError) and "connect" not in first_line:
        return f"{name} at {where} says: {first_line}"
    return f"{name} does not answer at {where}. {remedy}"
