"""Makes a database ready: tables, groups, default schedules, and on request the first person who may sign in."""

import io
import json
from dataclasses import dataclass

from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.utils.crypto import get_random_string

from config import groups

ADMIN = "admin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """What was made; empty where it was there already. The password is known here and nowhere else."""

    groups: list[str]
    schedules: list[str]
    admin_password: str | None


def prepare(*, admin: bool = False, reset_password: bool = False) -> Prepared:
    """Migrate and seed; safe to repeat, changes nothing that somebody edited.

    With `admin`: make the superuser `admin` unless there is a superuser. With `reset_password`: give `admin` a new password.
    """
    call_command("migrate", interactive=False, verbosity=0)
    return Prepared(
        groups=groups.seed(),
        schedules=_seed_schedules(),
        admin_password=_admin_password(reset=reset_password) if admin or reset_password else None,
    )


def _seed_schedules() -> list[str]:
    output = io.StringIO()
    call_command("seed_schedules", json=True, stdout=output)
    created: list[str] = json.loads(output.getvalue())["created"]
    return created


def _admin_password(*, reset: bool) -> str | None:
    users = get_user_model().objects
    if not reset and users.filter(is_superuser=True).exists():
        return None
    user, _ = users.get_or_create(username=ADMIN)
    user.is_active = user.is_staff = user.is_superuser = True
    password = get_random_string(16)
    user.set_password(password)
    user.save()
    return password
