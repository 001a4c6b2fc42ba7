"""The Celery app. No tasks, no schedules, no handlers: the rooms bring theirs."""

import os
from typing import Any

from celery import Celery
from celery.contrib.django.task import DjangoTask

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")


class Task(DjangoTask[..., Any]):
    """Every task's base: its Request, in the worker's main process, captures every death (a dotted string: the web never imports it)."""

    abstract = True
    Request = "deadletters.request:DeadLetterRequest"


app = Celery("redeliver", task_cls=Task)
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
