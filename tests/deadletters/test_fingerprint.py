import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deadletters.envelope import clean
from deadletters.fingerprint import call_site, fingerprint, normalise

TRACEBACK = """Traceback (most recent call last):
  File "/srv/app/.venv/lib/python3.11/site-packages/celery/app/trace.py", line 453, in trace_task
  File "/srv/app/sales/tasks.py", line {line}, in price
  File "/srv/app/.venv/lib/python3.11/site-packages/httpx/_client.py", line 1053, in get
httpx.ReadTimeout: timed out"""


def of(message, line=118, **changes):
    facts = {
        "task_name": "sales.price",
        "cause": "exception",
        "exception_type": "ReadTimeout",
        "message": message,
        "traceback": TRACEBACK.format(line=line),
    }
    return fingerprint(**{**facts, **changes})


def test_numbers_ids_addresses_and_paths_do_not_split_an_error():
    a = of(
        "no row 17 at https://a.example/x?id=1 in /var/data/a.csv for 7f832af1-1122-4e71-a3c7-1987284ecad9 <object at 0x7f01>"
    )
    b = of(
        "no row 9,321 at http://b.example/y in /srv/b/c.csv for 00000000-0000-4000-8000-000000000000 <object at 0x99aa>",
        line=230,
    )
    assert a == b


def test_other_words_another_task_or_another_place_is_another_error():
    assert len({of("timed out"), of("refused"), of("timed out", task_name="x"), of("timed out", traceback="")}) == 4


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("row 'Ada' is a duplicate", "row 'Béla Kovács, 3rd' is a duplicate"),
        ('duplicate key value violates "orders_pkey" (id)=(17)', 'duplicate key value violates "items_pkey" (id)=(9)'),
        ("no such file: data/in/a.csv", "no such file: spool/b.parquet"),
        ("cannot open C:\\temp\\a.txt", "cannot open D:\\x\\y\\z.log"),
        ("no route to fe80::1ff:fe23:4567:890a", "no route to 2001:db8::2"),
        ("waiting for fx.internal:8443", "waiting for rates-2.example.com:443"),
        ("customer cus_9f8A7b6C5d not found", "customer cus_000aaa111b not found"),
        ("mail to ada@example.com bounced", "mail to b.k+x@mail.example.org bounced"),
        ("timed out after 10.5 s (req 5d04081b)", "timed out after 3 s (req ffff0000)"),
        ("at 2026-11-26T08:55:13 in /home/a/b", "at 2025-01-02T03:04:05 in /srv"),
    ],
)
def test_values_do_not_split_an_error(one, other):
    assert normalise(one) == normalise(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("'vat_rate'", "'total'"),  # KeyError
        ("can't connect, can't retry", "can't connect, won't retry"),
        ("connection refused", "connection reset"),
    ],
)
def test_other_words_split_it(one, other):
    assert normalise(one) != normalise(other)


def test_blank_lines_of_a_traceback_cost_no_more_than_others():
    """Looked at from each of them to the last, they would take half an hour."""
    blank = "\n" * 1_000_000
    assert call_site(f'{blank}  File "/srv/app/sales/tasks.py", line 5, in price{blank}') == "tasks.py:price"


@given(st.text(max_size=600))
def test_no_number_of_any_message_is_left(message):
    assert not re.search(r"\d", normalise(message))


@given(st.integers(0, 10**12), st.uuids(), st.ip_addresses(v=4))
def test_any_number_id_and_address_reads_the_same(number, uuid, address):
    assert normalise(f"row {number} of {uuid} at {address}") == normalise(
        "row 1 of 7f832af1-1122-4e71-a3c7-1987284ecad9 at 10.0.0.1"
    )


@given(st.text(st.characters(exclude_categories=[])))
def test_any_text_can_be_stored(text):
    cleaned = clean(text)
    cleaned.encode("utf-8")
    assert "\x00" not in cleaned
