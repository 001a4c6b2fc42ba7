"""Why something is not as usual is written as codes, too. Columns that may be NULL: no table is rewritten, and a beat of before goes on writing."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("schedules", "0006_enable_permission")]

    operations = [
        migrations.AddField("occurrence", "why", models.JSONField(blank=True, null=True)),
        migrations.AddField("broken", "why", models.JSONField(blank=True, null=True)),
        migrations.AddField("policy", "pause_why", models.JSONField(blank=True, editable=False, null=True)),
    ]
