"""Turning schedules on and off is a permission of its own. Whoever may edit them could do it until now, and still can."""

from django.apps.registry import Apps
from django.conf import settings
from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor


def grant(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    permission_model = apps.get_model("auth", "Permission")
    change = permission_model.objects.filter(content_type__app_label="schedules", codename="change_schedule").first()
    if change is None:  # a new database: permissions are made after the migrations
        return
    enable, _made = permission_model.objects.get_or_create(
        content_type=change.content_type, codename="enable_schedule", defaults={"name": "Can turn schedules on and off"}
    )
    for group in apps.get_model("auth", "Group").objects.filter(permissions=change):
        group.permissions.add(enable)
    for user in apps.get_model(settings.AUTH_USER_MODEL).objects.filter(user_permissions=change):
        user.user_permissions.add(enable)


class Migration(migrations.Migration):
    dependencies = [("schedules", "0005_lists"), migrations.swappable_dependency(settings.AUTH_USER_MODEL)]

    operations = [
        migrations.AlterModelOptions(
            name="schedule",
            options={
                "permissions": (
                    ("run_schedule", "Can run schedules now"),
                    ("enable_schedule", "Can turn schedules on and off"),
                ),
                "verbose_name": "schedule",
                "verbose_name_plural": "schedules",
            },
        ),
        migrations.RunPython(grant, migrations.RunPython.noop),
    ]
