import json

import pytest
from django.contrib.auth import authenticate
from django.contrib.auth.models import Group, Permission, User
from django.core.management import call_command

from config import groups
from config.prepare import prepare

pytestmark = pytest.mark.django_db


def test_groups_are_made_once_and_an_edited_one_is_left_alone():
    assert groups.seed() == ["Responders", "Operators"]
    responders = Group.objects.get(name="Responders")
    responders.permissions.remove(Permission.objects.get(codename="discard_deadletter"))
    Group.objects.get(name="Operators").delete()
    assert groups.seed() == ["Operators"]
    assert not responders.permissions.filter(codename="discard_deadletter").exists()


def test_responders_replay_and_only_operators_start_runs():
    groups.seed()
    responder, operator = (User.objects.create_user(name) for name in ("responder", "operator"))
    responder.groups.add(Group.objects.get(name="Responders"))
    operator.groups.add(Group.objects.get(name="Operators"))
    assert responder.has_perms(["deadletters.replay_deadletter", "deadletters.view_deadletter"])
    assert not responder.has_perm("pipelines.start_run")
    assert operator.has_perms(["deadletters.replay_deadletter", "pipelines.start_run", "schedules.change_schedule"])


def test_a_permission_that_does_not_exist_is_named(monkeypatch):
    monkeypatch.setitem(groups.GROUPS, "Responders", ("deadletters.bury_deadletter",))
    with pytest.raises(LookupError, match=r"deadletters\.bury_deadletter"):
        groups.seed()
    assert not Group.objects.filter(name="Responders").exists()


def test_prepare_makes_the_first_admin_and_no_second():
    made = prepare(admin=True)
    assert authenticate(username="admin", password=made.admin_password).is_superuser
    assert made.groups == ["Responders", "Operators"]
    again = prepare(admin=True)
    assert (again.admin_password, again.groups, again.schedules) == (None, [], [])


def test_prepare_gives_admin_a_new_password_when_asked():
    old = prepare(admin=True).admin_password
    User.objects.filter(username="admin").update(is_active=False)
    new = prepare(reset_password=True).admin_password
    assert authenticate(username="admin", password=old) is None
    assert authenticate(username="admin", password=new)


def test_prepare_tells_what_it_made(capsys):
    call_command("prepare", admin=True)
    said = capsys.readouterr().out
    assert "New groups: Responders, Operators." in said
    assert "Sign in as admin with the password" in said
    call_command("prepare", json=True)
    assert json.loads(capsys.readouterr().out) == {"groups": [], "schedules": [], "admin_password": None}
