"""Celery without us. PEER_RESULTS: `ignore`, a Redis address, or `django` (django-celery-results; PEER_REUSE=1 keeps its connection)."""

import os

import dj_database_url
from celery import Celery
from django.conf import settings

RESULTS = os.environ["PEER_RESULTS"]

if RESULTS == "django":
    settings.configure(
        INSTALLED_APPS=["django_celery_results"],
        DATABASES={"default": {**dj_database_url.parse(os.environ["PEER_DATABASE"]), "CONN_MAX_AGE": None}},
        USE_TZ=True,
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    )
    # So that Celery's own Django fixup is at work, as in any Django project.
    os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.peers.celery_app"
    import django

    django.setup()

app = Celery("peer", broker=os.environ["PEER_BROKER"])
app.conf.update(
    result_backend={"ignore": None, "django": "django-db"}.get(RESULTS, RESULTS),
    task_ignore_result=RESULTS == "ignore",
    worker_hijack_root_logger=False,
    broker_connection_retry_on_startup=True,
)
if os.environ.get("PEER_REUSE"):
    app.conf["CELERY_DB_REUSE_MAX"] = 10**9


@app.task(name="benchmarks.noop")
def noop(number: int) -> int:
    """Return what it was given."""
    return number
