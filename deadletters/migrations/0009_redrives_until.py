from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('deadletters', '0008_acts_on_runs_and_workers'),
    ]

    operations = [
        # Nullable and without a default: no row is rewritten.
        migrations.AddField(
            model_name='redrive',
            name='until',
            field=models.DateTimeField(null=True),
        ),
    ]
