"""Our application with Celery's own Request and Consumer and kombu's own Redis transport: without what captures deaths."""

from celery import signals
from kombu.transport import TRANSPORT_ALIASES

from config.celery import app

app.Task.Request = "celery.worker.request:Request"
app.conf.worker_consumer = "celery.worker.consumer:Consumer"


@signals.worker_init.connect
def _stock_transport(**_: object) -> None:
    # Once the apps are ready, which put ours there.
    TRANSPORT_ALIASES.update(dict.fromkeys(("redis", "rediss"), "kombu.transport.redis:Transport"))
