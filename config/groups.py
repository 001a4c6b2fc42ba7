"""The two groups of people that run the platform, beside superusers."""

from django.contrib.auth.models import Group, Permission
from django.db import transaction
from django.db.models import Q

RESPONDERS = (
    "deadletters.view_deadletter",
    "deadletters.replay_deadletter",
    "deadletters.discard_deadletter",
    "deadletters.triage_errorgroup",
    "deadletters.view_redrive",
    "deadletters.view_act",
    "pipelines.view_run",
    "django_celery_results.view_taskresult",
    "schedules.view_schedule",
    "monitoring.view_workers",
    "monitoring.view_delivery",
)
OPERATORS = (
    *RESPONDERS,
    "deadletters.edit_deadletter",
    "deadletters.start_redrive",
    "pipelines.start_run",
    "pipelines.cancel_run",
    "schedules.add_schedule",
    "schedules.change_schedule",
    "schedules.delete_schedule",
    "schedules.enable_schedule",
    "schedules.run_schedule",
    "monitoring.control_workers",
)
GROUPS = {"Responders": RESPONDERS, "Operators": OPERATORS}


def seed() -> list[str]:
    """Make the groups that are missing and return their names; a group that exists stays as it was edited.

    Raises:
        LookupError: a permission that we name is not in the database (a migration is missing, or the name is wrong).
    """
    made = []
    for name, wanted in GROUPS.items():
        with transaction.atomic():
            group, created = Group.objects.get_or_create(name=name)
            if created:
                group.permissions.set(_permissions(wanted))
                made.append(name)
    return made


def _permissions(names: tuple[str, ...]) -> list[Permission]:
    condition = Q()
    for name in names:
        app_label, codename = name.split(".")
        condition |= Q(content_type__app_label=app_label, codename=codename)
    found = {f"{row.content_type.app_label}.{row.codename}": row for row in Permission.objects.filter(condition)}
    if missing := sorted(set(names) - set(found)):
        raise LookupError(f"There are no such permissions: {', '.join(missing)}. Run `manage.py migrate` first.")
    return list(found.values())
