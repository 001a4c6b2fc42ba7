from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('monitoring', '0002_told_and_heartbeat'),
        ('django_celery_results', '0014_alter_taskresult_status'),
        ('deadletters', '0001_initial'),
    ]

    operations = [
        migrations.CreateModel(
            name='Minute',
            fields=[
                ('at', models.DateTimeField(primary_key=True, serialize=False, verbose_name='minute')),
                ('counted', models.BooleanField(default=False, verbose_name='counted')),
                ('succeeded', models.PositiveIntegerField(default=0, verbose_name='succeeded')),
                ('failed', models.PositiveIntegerField(default=0, verbose_name='failed')),
                ('died', models.PositiveIntegerField(default=0, verbose_name='died')),
                ('busy', models.FloatField(default=0, verbose_name='seconds run')),
                ('open', models.PositiveIntegerField(null=True, verbose_name='open letters')),
                ('waiting', models.PositiveIntegerField(null=True, verbose_name='waiting messages')),
                ('workers', models.PositiveIntegerField(null=True, verbose_name='workers')),
            ],
            options={
                'verbose_name': 'minute',
                'verbose_name_plural': 'minutes',
                'default_permissions': (),
            },
        ),
        migrations.CreateModel(
            name='PausedQueue',
            fields=[
                ('name', models.CharField(max_length=255, primary_key=True, serialize=False, verbose_name='queue')),
                ('at', models.DateTimeField(auto_now_add=True, verbose_name='paused')),
                ('by', models.CharField(max_length=150, verbose_name='by')),
                ('reason', models.TextField(blank=True, verbose_name='reason')),
                ('workers', models.JSONField(default=list, verbose_name='workers')),
            ],
            options={
                'verbose_name': 'paused queue',
                'verbose_name_plural': 'paused queues',
                'permissions': (('view_workers', 'Can see workers and queues'), ('control_workers', 'Can pause queues, revoke tasks and stop workers')),
                'default_permissions': (),
            },
        ),
    ]
