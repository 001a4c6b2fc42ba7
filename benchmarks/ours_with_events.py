"""Our app with Celery's task events, as it runs while Flower listens."""

from config.celery import app

app.conf.update(worker_send_task_events=True)
