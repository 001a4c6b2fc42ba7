"""What people, and programs, type into addresses is answered, whatever it is."""

from itertools import product

import pytest
from django.contrib.admin import site
from django.urls import reverse

from tests.deadletters.letters import letter

pytestmark = pytest.mark.django_db
ODD = ("a%00b", "%ED%A0%80", "9" * 24, "-1", "0001-01-01", "9999-12-31T23:59:59", "%25", "x" * 2_000)
LISTS = {model: admin for model, admin in site._registry.items() if model._meta.app_label != "auth"}
# Of the lists themselves and of the page that asks before a redrive.
NAMES = ("q", "state", "before", "after", "age", "o", "ids", "since", "upto", "cause")


@pytest.mark.parametrize("model", LISTS, ids=lambda model: model._meta.label_lower)
def test_a_list_answers_each_odd_filter(admin_client, model):
    address = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
    columns = [field.name for field in model._meta.concrete_fields]
    for name, value in [*product(NAMES, ODD), *product(columns, ["-1"])]:
        assert admin_client.get(f"{address}?{name}={value}").status_code < 500, (name, value)


def test_the_page_before_a_redrive_answers_each_odd_filter(admin_client):
    address = reverse("admin:deadletters_redrive_new")
    for name, value in product((*NAMES, "task_name", "queue", "fingerprint", "root_id"), ODD):
        assert admin_client.get(f"{address}?{name}={value}").status_code < 500, (name, value)


@pytest.mark.parametrize(
    "address",
    [
        "/deadletters/deadletter/?queue=a%00b",
        "/deadletters/deadletter/?headers__contains=x",
        "/deadletters/deadletter/?traceback__contains=x",
        "/pipelines/run/?params__contains=x",
        "/django_celery_results/taskresult/?task_kwargs__contains=x",
        "/schedules/schedule/?kwargs__contains=x",
    ],
)
def test_what_no_page_shows_cannot_be_asked_for(admin_client, address):
    answer = admin_client.get(address)
    assert answer.status_code == 400
    assert "asks for what no page shows" in answer.text
    assert answer.headers["Content-Security-Policy"]


LONG, NUL = "9" * 5_000, "a\0bc"


@pytest.mark.parametrize(
    ("address", "fields"),
    [
        ("/deadletters/redrive/new/", {"q": NUL, "queue": NUL, "upto": LONG, "next": NUL}),
        ("/deadletters/deadletter/{pk}/replay/", {"reason": NUL, "next": NUL}),
        ("/deadletters/deadletter/{pk}/edit/", {"mode": "json", "args": "[]", "queue": NUL, "delay": LONG}),
        ("/deadletters/deadletter/error/{error}/assign/", {"assignee": NUL}),
        ("/deadletters/deadletter/", {"action": "replay_letters", "_selected_action": NUL}),
        ("/deadletters/deadletter/", {"action": "discard_letters", "_selected_action": LONG}),
        ("/deadletters/deadletter/", {"action": "discard_letters", "_selected_action": "{pk}", "upto": LONG}),
        ("/workers/pause/", {"queue": NUL, "reason": NUL}),
        ("/workers/resume/", {"queue": NUL}),
        ("/workers/revoke/", {"task": "\0", "next": NUL}),  # a worker would note the end of what it does not know
        ("/workers/shut-down/", {"worker": NUL}),
    ],
)
def test_a_form_answers_what_no_page_of_ours_posts(admin_client, address, fields):
    made = letter(body=b"[[], {}, {}]")
    names = {"pk": made.pk, "error": made.fingerprint}
    posted = {name: value.format(**names) for name, value in fields.items()}
    assert admin_client.post(address.format(**names), posted).status_code < 500
