"""The newest result of each schedule, asked for by the list: without this index a year of heartbeats is sorted for each row."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [
        ("schedules", "0001_initial"),
        ("django_celery_results", "0014_alter_taskresult_status"),
    ]

    operations = [
        migrations.RunSQL(
            "CREATE INDEX schedules_newest_result ON django_celery_results_taskresult (periodic_task_name, id DESC)"
            " WHERE periodic_task_name IS NOT NULL",
            "DROP INDEX schedules_newest_result",
        ),
    ]
