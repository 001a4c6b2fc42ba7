"""What the list of schedules is filtered by. None of these columns changes when a schedule runs, so a run costs no more than before."""

from django.db import migrations

INDEXES = {
    "schedules_by_task": "django_celery_beat_periodictask (task, name)",
    "schedules_by_queue": "django_celery_beat_periodictask (queue, name) WHERE queue IS NOT NULL",
    "schedules_off": "django_celery_beat_periodictask (name) WHERE NOT enabled",
    "schedules_paused": "schedules_policy (schedule_id) WHERE paused_at IS NOT NULL",
}


class Migration(migrations.Migration):
    dependencies = [("schedules", "0004_tell_beat")]

    operations = [
        *(migrations.RunSQL(f"CREATE INDEX {name} ON {on}", f"DROP INDEX {name}") for name, on in INDEXES.items()),
        # The list asks the occurrences now.
        migrations.RunSQL(
            "DROP INDEX IF EXISTS schedules_newest_result",
            "CREATE INDEX schedules_newest_result ON django_celery_results_taskresult (periodic_task_name, id DESC)"
            " WHERE periodic_task_name IS NOT NULL",
        ),
    ]
