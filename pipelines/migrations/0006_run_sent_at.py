from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("pipelines", "0005_results_not_success")]

    operations = [
        migrations.AddField(
            model_name="run",
            name="sent_at",
            field=models.DateTimeField(blank=True, null=True, verbose_name="sent"),
        ),
        migrations.RunSQL(
            "UPDATE pipelines_run SET sent_at = created_at WHERE problem = ''", migrations.RunSQL.noop
        ),
    ]
