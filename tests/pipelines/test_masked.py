from celery.app.task import Context

from pipelines import masked
from tests import tasks  # noqa: F401  (tests.pay says which of its arguments is secret)

ACCOUNT = "DE89370400440532013000"


def test_a_secret_argument_is_hidden_wherever_an_exception_carries_it():
    request = Context(task="tests.pay", args=["bob", ACCOUNT, "t0ken-of-bob"], kwargs={})
    said = {
        "exc_type": "ValueError",
        "exc_message": [f"account {ACCOUNT}", {"why": f"account {ACCOUNT}", f"of {ACCOUNT}": [f"also {ACCOUNT}"]}],
        "exc_module": "builtins",
    }
    result, traceback = masked.failure(request, said, f"ValueError: account {ACCOUNT}")
    assert ACCOUNT not in str(result)
    assert ACCOUNT not in traceback
    assert result["exc_message"][1]["why"].startswith("account ")
