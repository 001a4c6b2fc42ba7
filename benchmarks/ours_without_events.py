"""Our app without Celery's task events, which the peers do not send by default either."""

from config.celery import app

app.conf.update(worker_send_task_events=False, task_send_sent_event=False)
