import pytest
from django.contrib.auth.models import Permission, User

from schedules import edit
from schedules.due import Every
from schedules.models import Schedule


@pytest.fixture
def schedule(db):
    """An enabled schedule that runs every ten minutes."""
    one = Schedule(name="Ten", task="tests.anything")
    edit.place(one, Every.parse(10, "minutes"))
    edit.save(one)
    return one


@pytest.fixture
def staff(db):
    """Makes a person of the staff with these permissions on schedules."""

    def make(*codenames, name="ana"):
        user = User.objects.create_user(name, password="password", is_staff=True)
        user.user_permissions.set(
            Permission.objects.filter(content_type__app_label="schedules", codename__in=codenames)
        )
        assert user.user_permissions.count() == len(codenames)
        return user

    return make


@pytest.fixture
def typed():
    """What a filled form sends."""
    return {
        "name": "New", "task": "tests.total", "kind": "cron", "cron": "0 9 * * 1-5", "timezone": "Europe/Berlin", "every": "5",
        "period": "minutes", "at": "", "args": "[1, 2]", "kwargs": '{"times": 3}', "headers": "{}", "start": "", "queue": "",
        "priority": "", "expire_seconds": "", "description": "", "enabled": "on",
    }  # fmt: skip
