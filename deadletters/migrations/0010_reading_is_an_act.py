from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('deadletters', '0009_redrives_until'),
    ]

    operations = [
        # Choices only: no statement.
        migrations.AlterField(
            model_name='act',
            name='verb',
            field=models.CharField(
                choices=[
                    ('replayed', 'Replayed'), ('edited', 'Edited and replayed'), ('discarded', 'Discarded'), ('restored', 'Restored'),
                    ('payload_read', 'Read a payload'),
                    ('redrive_started', 'Started a redrive'), ('redrive_paused', 'Paused a redrive'), ('redrive_resumed', 'Resumed a redrive'),
                    ('redrive_cancelled', 'Cancelled a redrive'), ('redrive_stopped', 'Stopped a redrive'), ('error_resolved', 'Resolved an error'),
                    ('error_reopened', 'Reopened an error'), ('error_discarded', 'Discarded an error'), ('error_noted', 'Wrote a note'),
                    ('error_assigned', 'Assigned an error'), ('run_cancelled', 'Cancelled a run'), ('queue_paused', 'Paused a queue'),
                    ('queue_resumed', 'Resumed a queue'), ('task_revoked', 'Revoked a task'), ('task_terminated', 'Terminated a task'),
                    ('worker_stopped', 'Shut a worker down'),
                ],
                max_length=24,
                verbose_name='act',
            ),
        ),
    ]
