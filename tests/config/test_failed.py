"""What a person sees when a page could not be made."""

import pytest
from django.db import connections
from django.test import Client


@pytest.mark.django_db
def test_an_address_of_nothing_says_so_and_leads_home(admin_client):
    answer = admin_client.get("/no/such/page/")
    assert answer.status_code == 404
    assert "There is no such page" in answer.content.decode()
    assert 'href="/"' in answer.content.decode()


@pytest.mark.django_db
def test_who_may_not_is_told_whom_to_ask(client, django_user_model):
    client.force_login(django_user_model.objects.create_user("clerk", is_staff=True))
    answer = client.get("/workers/")
    assert answer.status_code == 403
    assert "Ask somebody who may give permissions" in answer.content.decode()


@pytest.mark.django_db
def test_a_form_without_its_token_says_that_nothing_was_done(admin_user):
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(admin_user)
    answer = strict.post("/workers/pause/")
    assert answer.status_code == 403
    assert "nothing was done" in answer.content.decode()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("problem", "status", "says"), [("away", 503, "PostgreSQL does not answer"), ("bug", 500, "Something went wrong")]
)
def test_a_failure_is_a_page_that_asks_the_database_nothing(admin_user, monkeypatch, problem, status, says):
    client = Client(raise_request_exception=False)
    client.force_login(admin_user)
    connection = connections["default"]
    connection.close()
    if problem == "away":
        monkeypatch.setitem(connection.settings_dict, "PORT", "1")
    else:
        monkeypatch.setattr("monitoring.views.figures", lambda _window: 1 / 0)
    answer = client.get("/")
    connection.close()
    assert answer.status_code == status
    assert says in answer.content.decode()
