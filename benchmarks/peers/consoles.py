"""Procrastinate's admin and django-rq's pages over failed jobs of our own making; runs in the peers' environment.

`python -m benchmarks.peers.consoles JOBS RQ_JOBS ROUNDS` with PEER_DATABASE (an empty one) and PEER_REDIS prints JSON: {console: {screen: times}}.
"""

import json
import os
import sys
from typing import Any

import django
from django.conf import settings
from django.contrib import admin
from django.urls import include, path

DATABASE, REDIS = os.environ["PEER_DATABASE"], os.environ["PEER_REDIS"]
# Failed jobs of 20 tasks, each with the events that a worker leaves: a trigger writes them in real life.
JOBS = """
    INSERT INTO procrastinate_jobs (queue_name, task_name, args, status, attempts)
    SELECT 'q' || n %% 5, 'shop.task_' || n %% 20, jsonb_build_object('order', n), 'failed', 3 FROM generate_series(1, %s) AS n
"""
EVENTS = """
    INSERT INTO procrastinate_events (job_id, type, at)
    SELECT job.id, kind::procrastinate_job_event_type, now() - job.id * interval '1 second'
    FROM procrastinate_jobs AS job CROSS JOIN unnest(ARRAY['deferred', 'started', 'failed']) AS kind
"""


def configure() -> None:
    """A project with both, as their own documentation sets them up."""
    user, _at, place = DATABASE.removeprefix("postgres://").rpartition("@")
    name, _colon, password = user.partition(":")
    address, _slash, database = place.partition("/")
    host, _colon, port = address.partition(":")
    backend = {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": database,
        "USER": name,
        "PASSWORD": password,
        "HOST": host,
        "PORT": port,
    }
    django_parts = ["admin", "auth", "contenttypes", "sessions", "messages", "staticfiles"]
    context = [
        "template.context_processors.request",
        "contrib.auth.context_processors.auth",
        "contrib.messages.context_processors.messages",
    ]
    middleware = [
        "sessions.middleware.SessionMiddleware",
        "auth.middleware.AuthenticationMiddleware",
        "messages.middleware.MessageMiddleware",
    ]
    settings.configure(
        SECRET_KEY="of-a-benchmark", ALLOWED_HOSTS=["testserver"], USE_TZ=True, STATIC_URL="/static/", ROOT_URLCONF="__main__",
        DATABASES={"default": {**backend, "CONN_MAX_AGE": None}}, RQ_QUEUES={"default": {"URL": REDIS}}, DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        INSTALLED_APPS=[*(f"django.contrib.{part}" for part in django_parts), "procrastinate.contrib.django", "django_rq"],
        MIDDLEWARE=[f"django.contrib.{part}" for part in middleware],
        TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True, "OPTIONS": {"context_processors": [f"django.{part}" for part in context]}}],
    )  # fmt: skip
    django.setup()


def procrastinate(jobs: int) -> dict[str, str]:
    """Fill its tables; {what: address}."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(JOBS, [jobs])
        cursor.execute(EVENTS)
        cursor.execute("VACUUM ANALYZE procrastinate_jobs")
        cursor.execute("VACUUM ANALYZE procrastinate_events")
    where = "/procrastinate/procrastinatejob/"
    return {
        "dead letters: page 1": where,
        "dead letters: page 1,000": f"{where}?p=1000",
        "dead letters: in one state": f"{where}?status__exact=failed",
        "dead letters: a task's": f"{where}?task_name=shop.task_19",
        "one letter": f"{where}{jobs // 2}/change/",
    }


def rq(jobs: int) -> dict[str, str]:
    """Fill its registry of failed jobs; {what: address}."""
    import django_rq
    from rq.job import Job, JobStatus
    from rq.registry import FailedJobRegistry

    queue = django_rq.get_queue("default")
    registry, client = FailedJobRegistry(queue=queue), queue.connection
    one = ""
    with client.pipeline() as pipe:
        for number in range(jobs):
            job = Job.create(
                "benchmarks.peers.rq_tasks.fail",
                (number,),
                connection=client,
                status=JobStatus.FAILED,
                origin=queue.name,
            )
            job.save(pipeline=pipe, include_result=False)
            registry.add(job, ttl=-1, pipeline=pipe)
            one = job.id
            if number % 1000 == 999:
                pipe.execute()
        pipe.execute()
    where = "/django-rq/queues/0/"
    return {"dashboard": "/django-rq/", "dead letters: page 1": f"{where}failed/", "dead letters: page 1,000": f"{where}failed/?page={min(1000, jobs // 100)}", "one letter": f"{where}{one}/"}  # fmt: skip


def main() -> None:
    """Migrate, fill, measure, print."""
    from django.core.management import call_command

    from benchmarks.page_times import timed

    jobs, rq_jobs, rounds = map(int, sys.argv[1:])
    call_command("migrate", verbosity=0)
    found: dict[str, Any] = {
        "Procrastinate's admin": timed(procrastinate(jobs), rounds),
        "django-rq": timed(rq(rq_jobs), rounds),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    configure()
    urlpatterns = [path("django-rq/", include("django_rq.urls")), path("", admin.site.urls)]
    main()
