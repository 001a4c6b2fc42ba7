from django.db import migrations


class Migration(migrations.Migration):

    dependencies = [
        ('pipelines', '0004_chord_told'),
        ('django_celery_results', '0014_alter_taskresult_status'),
    ]

    operations = [
        # The list of what failed, newest first, of ten million results. Partial: a success pays nothing for it.
        migrations.RunSQL(
            "CREATE INDEX results_not_success ON django_celery_results_taskresult (status, date_done DESC, id DESC)"
            " WHERE status <> 'SUCCESS'",
            "DROP INDEX results_not_success",
        ),
    ]
