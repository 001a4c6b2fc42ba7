from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("pipelines", "0006_run_sent_at")]

    operations = [
        migrations.AlterField(model_name="chord", name="body", field=models.TextField(verbose_name="body")),
    ]
