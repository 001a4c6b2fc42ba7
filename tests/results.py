"""The result backends: workers and this process on PostgreSQL's or Redis' results, and what a canvas has come to."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis
from celery.result import AsyncResult, ResultSet

from config.celery import app
from tests.processes import Worker
from tests.rabbitmq import publishing_to

BACKENDS = ("postgresql", "redis")


@contextmanager
def a_worker_with_results_in(backend: str, folder: Path) -> Iterator[None]:
    """A worker, and this process with it, that keep their results there; apart from all others, which keep theirs in PostgreSQL."""
    server = os.environ["BROKER_URL"].rsplit("/", 1)[0]
    url = f"{server}/1" if backend == "redis" else ""
    for number in (1, 2):  # what an earlier module left there is nobody's
        with redis.Redis.from_url(f"{server}/{number}") as client:
            client.flushdb()
    process = Worker(folder, RESULTS_URL=url, BROKER_URL=f"{server}/2", concurrency=3)
    try:
        with publishing_to(f"{server}/2"), _results_in(url):
            yield
    finally:
        process.stop()


@contextmanager
def _results_in(url: str) -> Iterator[None]:
    before = app.conf.result_backend
    if url:
        app.conf.result_backend = f"pipelines.redis_results.ResultBackend+{url}"
    vars(app._local).pop("backend", None)
    try:
        yield
    finally:
        close_results()
        app.conf.result_backend = before
        vars(app._local).pop("backend", None)


def close_results() -> None:
    """Each thread has a backend of its own; Redis' keeps sockets open."""
    backend = app.backend
    if hasattr(backend, "client"):
        backend.result_consumer.stop()
        backend.result_consumer._pubsub = None  # or each result that is collected opens it again
        backend.client.close()
        backend.client.connection_pool.disconnect()


def ends(result: AsyncResult | ResultSet) -> list[str]:
    """The ids that a caller waits on."""
    if isinstance(result, ResultSet):
        return [task_id for each in result.results for task_id in ends(each)]
    return [result.id]


def succeeded(result: AsyncResult | ResultSet) -> bool:
    """Whether all that a caller waits on has succeeded."""
    ids = ends(result)
    ready = app.backend.ready(ids)
    return len(ready) == len(set(ids)) and all(state == "SUCCESS" for state, _at in ready.values())


def value(result: AsyncResult | ResultSet) -> object:
    """What a caller gets."""
    if isinstance(result, ResultSet):
        return [value(each) for each in result.results]
    return app.backend.get_task_meta(result.id, cache=False)["result"]
