"""What people, and programs, type into addresses is answered, whatever it is."""

from itertools import product

import pytest
from django.contrib.admin import site
from django.urls import reverse

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
