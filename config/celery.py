"""The Celery app. No tasks, no schedules, no handlers: the rooms bring theirs."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

app = Celery("redeliver", task_cls="deadletters.capture.task:DeadLetterTask")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
