import json
import logging
from types import SimpleNamespace

import pytest
from celery._state import _task_stack
from hypothesis import given
from hypothesis import strategies as st

from deadletters.secrets.redact import MASK, Redactor, TooBig, redactor, restore
from deadletters.secrets.redact_log import RedactingFormatter
from deadletters.secrets.redact_text import hide
from deadletters.secrets.reprs import on_before_task_publish
from pipelines import masked
from tests import tasks

NAMES = ("password", "token", "api_key", "authorization", "cookie", "card")
# Letters that no mask, name or JSON syntax contains.
SECRET = st.text("αβγδεζηθ", min_size=6, max_size=12)
PLAIN = Redactor(NAMES, {})


@pytest.mark.parametrize(
    "name",
    ["password", "PASSWORD", "user_password", "userPassword", "passwordHash", "password2", "passwords", "X-Api-Key", "apiKey", "APIKey",
     "access_token", "csrftoken", "dbpassword", "card_number", "Authorization", "Set-Cookie"],
)  # fmt: skip
def test_a_name_is_secret_however_it_is_written(name):
    assert PLAIN.value({name: "hunter2"}) == {name: MASK}


@pytest.mark.parametrize("name", ["discard", "tokenizer", "compass", "cardinality", "author", "key", "passenger", ""])
def test_a_name_that_only_contains_the_letters_is_none(name):
    assert PLAIN.value({name: "seen"}) == {name: "seen"}


def test_a_number_under_a_plural_is_a_count():
    assert PLAIN.value({"max_tokens": 500, "tokens": "abc", "token": 500}) == {
        "max_tokens": 500,
        "tokens": MASK,
        "token": MASK,
    }


def test_what_hides_nothing_stays():
    value = {"password": None, "token": "", "api_key": False}
    assert PLAIN.value(value) == value


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (["--password", "hunter2", "-v"], ["--password", MASK, "-v"]),
        (["--password=hunter2"], [f"--password={MASK}"]),
        ([["Authorization", "Bearer hunter2x"], ["Accept", "*"]], [["Authorization", MASK], ["Accept", "*"]]),
        ({"name": "password", "value": "hunter2"}, {"name": "password", "value": MASK}),
        ({"url": "redis://:hunter2@localhost/0"}, {"url": f"redis://:{MASK}@localhost/0"}),
    ],
)
def test_options_pairs_and_addresses(value, shown):
    assert PLAIN.value(value) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("login failed: password=hunter2, user=bob", f"login failed: password={MASK}, user=bob"),
        ("{'password': 'hunter2', 'user': 'bob'}", f"{{'password': '{MASK}', 'user': 'bob'}}"),
        ('{"token": "hun\\"ter2", "a": 1}', f'{{"token": "{MASK}", "a": 1}}'),
        ('"{\\"token\\": \\"hunter2\\"}"', f'"{{\\"token\\": \\"{MASK}\\"}}"'),
        ("postgres://bob:hun@ter2@db:5432/x refused", f"postgres://bob:{MASK}@db:5432/x refused"),
        ("https://x.example/?token=hunter2&page=2", f"https://x.example/?token={MASK}&page=2"),
        ("Authorization: Bearer hunter2.hunter2", f"Authorization: {MASK}"),
        ("Cookie: sessionid=hunter2; csrftoken=hunter2\nHost: x", f"Cookie: {MASK}\nHost: x"),
        ("DETAIL:  Key (email, token)=(bob, hunter2) already exists.", f"DETAIL:  Key (email, token)=({MASK}) already exists."),
        ("wrong password 'hunter2' for bob", f"wrong password '{MASK}' for bob"),
        ("curl --password hunter2 -v", f"curl --password {MASK} -v"),
        ("card={'number': 'hunter2', 'cvc': [1, 2]} rest", f"card={MASK} rest"),
        ("{'password': 'hunter2 is cu...", f"{{'password': '{MASK}"),
        ("api_key=[hunter2, 'a", f"api_key={MASK}"),
        ("a eyJhbGciOiJI.eyJzdWIiOiIx.hunter2 b", f"a {MASK} b"),
        ("-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY----- b", f"{MASK} b"),
    ],
)  # fmt: skip
def test_a_text_is_masked_where_it_says_what_is_secret(text, shown):
    assert PLAIN.text(text) == shown
    assert PLAIN.text(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "timed out after 10.0 s waiting for rates.example.com", "no token given", "password=None", "http://a:80/b@c",
        '  File "/srv/app/shop/rates.py", line 64, in rates_for', "discard=5", "",
    ],
)  # fmt: skip
def test_a_text_without_secrets_stays(text):
    assert PLAIN.text(text) == text


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text("abc =:'\"{", max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abcd_", max_size=4), inner, max_size=3),
        max_leaves=8,
    ),
    st.sampled_from(NAMES),
    SECRET,
    st.lists(st.sampled_from(["list", "dict", "pair", "json"]), max_size=6),
)
def test_however_deep_it_is_a_secret_is_not_seen(other, name, secret, path):
    value = {name: secret, "beside": other}
    for step in path:
        match step:
            case "list":
                value = [other, value]
            case "dict":
                value = {"inner": value}
            case "pair":
                value = {"task": "any", "args": [value], "kwargs": {}}
            case "json":
                value = json.dumps(value, ensure_ascii=False)
    found = set()
    shown = PLAIN.value(value, found)
    assert secret not in json.dumps(shown, ensure_ascii=False)
    assert secret not in hide(f"the value {secret} and {{'x': {secret!r}}} are bad", found)
    assert PLAIN.value(shown) == shown
    assert restore(shown, value, shown) == value


@given(st.text("pasword:='\"\\{[( \nxy1•-", max_size=60))
def test_any_text_is_masked_once(text):
    once = PLAIN.text(f"password={text}")
    assert PLAIN.text(once) == once


def test_a_task_says_which_arguments_are_secret():
    def pay(who, amount, iban, password): ...

    task = SimpleNamespace(redact=("iban", 0), run=pay)
    redactor = Redactor(NAMES, {"other": ("shoe", 1)}, {"pay": task}.get)
    assert redactor.arguments("pay", ["bob", 5, "DE02", "hunter2"], {}) == ([MASK, 5, MASK, MASK], {})
    assert redactor.arguments("pay", [], {"who": "bob", "amount": 5, "iban": "DE02"}) == (
        [],
        {"who": MASK, "amount": 5, "iban": MASK},
    )
    assert redactor.arguments("other", [1, "a"], {"shoe": 44}) == ([1, MASK], {"shoe": MASK})
    chain = {"chain": [{"task": "pay", "args": ["bob"], "kwargs": {"iban": "DE02"}, "options": {}}]}
    assert redactor.value(chain)["chain"][0] == {"task": "pay", "args": [MASK], "kwargs": {"iban": MASK}, "options": {}}


def test_the_rule_of_a_task_holds_for_each_item_that_it_is_called_with():
    redactor = Redactor(NAMES, {"pay": (0,)})
    called, found = {"task": "pay", "args": [], "kwargs": {}}, set()
    shown = redactor.arguments("celery.starmap", [], {"task": called, "it": [["DE02-bob", 5], ["DE03-ann", 6]]}, found)
    assert shown[1]["it"] == [[MASK, 5], [MASK, 6]]
    assert found >= {"DE02-bob", "DE03-ann"}
    assert redactor.arguments("celery.map", [], {"task": called, "it": ["DE02", "DE03"]})[1]["it"] == [MASK, MASK]
    parts = {"task": "celery.chunks", "args": [], "kwargs": {"task": called, "it": [["DE02", 5]], "n": 1}}
    assert redactor.value({"chain": [parts]})["chain"][0]["kwargs"]["it"] == [[MASK, 5]]
    assert redactor.rules_of("celery.map", {"task": called, "it": []}, None) == {"pay": [0]}
    # What is none of Celery's own messages stays what it is.
    for odd in ({"task": "pay", "it": 5}, {"task": called, "it": 5}, {"it": [1]}, [], None):
        assert redactor.arguments("celery.starmap", [], odd) == ([], odd)
    assert redactor.arguments("celery.starmap", [], {"task": called, "it": [1]})[1]["it"] == [1]


def test_what_is_sent_for_each_of_many_items_says_nothing_of_a_secret_one(settings):
    settings.DEADLETTERS_REDACT_TASKS = {"pay": (0,)}
    for number in (2, 5_000):  # the second is too much to look through
        items = [["DE02-bob", 5]] * number
        body = ((), {"task": {"task": "pay", "args": [], "kwargs": {}}, "it": items})
        headers = {"argsrepr": "()", "kwargsrepr": repr(body[1])[:1024]}
        request = SimpleNamespace(task="celery.starmap", args=[], kwargs=body[1], kwargsrepr=headers["kwargsrepr"])
        assert "DE02" not in str(masked.arguments(request))  # as the result's row has them, whoever sent it
        on_before_task_publish("celery.starmap", body, headers)
        assert "DE02" not in headers["kwargsrepr"]


def test_the_arguments_that_celery_repeats_in_the_headers_are_the_masked_ones():
    headers = {"id": "1", "argsrepr": "('hunter2',)", "kwargsrepr": "{}", "stamps": {"token": ["hunter2"]}}
    assert PLAIN.headers(headers, [MASK], {}) == {
        "id": "1",
        "argsrepr": f"['{MASK}']",
        "kwargsrepr": "{}",
        "stamps": {"token": MASK},
    }
    assert PLAIN.headers(headers)["argsrepr"] == MASK
    assert PLAIN.headers("no headers") == "no headers"


def test_whoever_pays_for_looking_may_set_an_end_to_it():
    with pytest.raises(TooBig):
        PLAIN.value([[1] * 10] * 10, most=50)
    with pytest.raises(TooBig):
        PLAIN.value(["a long text" * 10_000], most=50)


def test_the_time_to_mask_a_text_does_not_grow_with_its_square():
    """With the square this would take hours."""
    assert PLAIN.text("token: {\n" * 200_000) == f"token: {MASK}\n" * 200_000
    assert PLAIN.text("eyJhbGciOiJI-" * 100_000) == "eyJhbGciOiJI-" * 100_000


def test_an_edit_keeps_what_the_mask_stands_for():
    original = {"user": "bob", "password": "hunter2", "rows": [{"token": "a"}, {"token": "b"}], "url": "redis://:x1@h"}
    masked = PLAIN.value(original)
    edited = {**masked, "user": "ann", "rows": [{"token": MASK}, {"token": "c"}]}
    assert restore(edited, original, masked) == {**original, "user": "ann", "rows": [{"token": "a"}, {"token": "c"}]}
    assert restore({"new": MASK}, original, masked) == {"new": MASK}


def test_the_settings_say_what_is_secret(settings):
    settings.DEADLETTERS_REDACT_NAMES = ["shoe"]
    settings.DEADLETTERS_REDACT_TASKS = {"tests.add": ["b"]}
    assert redactor().value({"shoe": 44, "password": "x"}) == {"shoe": MASK, "password": "x"}
    assert redactor().arguments("tests.add", [1, 2], {}) == ([1, MASK], {})


def test_no_secret_is_in_a_line_of_the_log():
    formatter = RedactingFormatter("config.logging.ConsoleFormatter", fmt="%(message)s")
    try:
        raise ValueError("token=hunter2")
    except ValueError as problem:
        record = logging.getLogger("x").makeRecord(
            "x", logging.ERROR, "f", 1, "password=%s", ("hunter2",), (ValueError, problem, problem.__traceback__),
            extra={"echo_kwargs": {"api_key": "hunter2"}, "card": "hunter2", "request": SimpleNamespace(token="hunter2"), "data": "hunter2"},
        )  # fmt: skip
    line = formatter.format(record)
    assert "hunter2" not in line
    assert "ValueError" in line
    assert record.args == ("hunter2",)


def test_what_somebody_sent_writes_no_line_of_its_own():
    formatter = RedactingFormatter("config.logging.ConsoleFormatter", fmt="%(message)s")
    forged = "a\n12:00:01 CRITICAL all is lost\r\x1b[2J\u2028"
    record = logging.makeLogRecord({"msg": "dead_letter.captured", "task_id": forged, "letter_task": forged})
    line = formatter.format(record)
    assert len(line.splitlines()) == 1
    assert r"a\n12:00:01 CRITICAL" in line
    assert "\x1b" not in line


def test_each_run_of_a_task_has_secrets_of_its_own():
    """A retry and what takes a task's place have its id, and may have other arguments."""
    formatter = RedactingFormatter("config.logging.ConsoleFormatter", fmt="%(message)s")
    line = logging.makeLogRecord({"msg": "DE0001 or DE0002"})
    _task_stack.push(tasks.pay)
    try:
        for account, shown in (("DE0001", f"{MASK} or DE0002"), ("DE0002", f"DE0001 or {MASK}")):
            tasks.pay.push_request(id="the same", task="tests.pay", args=["bob", account], kwargs={})
            try:
                assert shown in formatter.format(line)
            finally:
                tasks.pay.pop_request()
    finally:
        _task_stack.pop()
