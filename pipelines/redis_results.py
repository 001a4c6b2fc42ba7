"""Results in Redis, for who prefers them there; chords wait in PostgreSQL all the same, so that a replay completes them.

The tables of django-celery-results stay empty then: the console has no list of results, and no times of a run's steps.
"""

import json
import random
from collections.abc import Collection, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from celery import states
from celery.backends.redis import RedisBackend
from django.conf import settings

from pipelines.barrier import Barrier, Standing

# Keys one question names; more would hold up everybody else on that Redis.
_BATCH = 500

# In one step, so that a success that comes in between stays.
_FORGET_UNLESS_SUCCESSFUL = """
for _, key in ipairs(KEYS) do
    local value = redis.call('GET', key)
    local fine, meta = pcall(cjson.decode, value or '')
    if value and not (fine and meta.status == 'SUCCESS') then redis.call('DEL', key) end
end
"""


class ResultBackend(Barrier, RedisBackend):  # type: ignore[misc]  # celery.backends ships no types
    """Celery's Redis backend with the chord barrier of chords.py."""

    implements_incr = False  # else Celery puts its own counting `apply_chord` in the place of the barrier's

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # Nothing prunes a Redis. (Not by CELERY_RESULT_EXPIRES, which would turn Celery's own clean-up on as well.)
        super().__init__(*args, **{**kwargs, "expires": timedelta(days=settings.RETENTION_DAYS)})

    def standing(self, task_ids: list[str]) -> Standing:
        statuses = [(task_id, meta.get("status")) for task_id, meta in self._metas(task_ids)]
        unfinished = [task_id for task_id, status in statuses if status not in states.READY_STATES]
        dead = (task_id for task_id, status in statuses if status in states.PROPAGATE_STATES)
        return Standing(random.choice(unfinished) if unfinished else "", next(dead, ""))  # noqa: S311  (no secret)

    def returned(self, task_ids: list[str]) -> dict[str, Any]:
        return {task_id: meta.get("result") for task_id, meta in self._metas(task_ids)}

    def forget_failures(self, task_ids: Collection[str]) -> None:
        script = self.client.register_script(_FORGET_UNLESS_SUCCESSFUL)
        for batch in _batches(list(task_ids)):
            script(keys=[self.get_key_for_task(task_id) for task_id in batch])

    def ready(self, task_ids: Collection[str]) -> dict[str, tuple[str, datetime]]:
        """{task id: (state, when)} of those that have ended."""
        return {task_id: at for task_id, at in self.known(task_ids).items() if at[0] in states.READY_STATES}

    def known(self, task_ids: Collection[str]) -> dict[str, tuple[str, datetime]]:
        """{task id: (state, when it was written)} of those that Redis has heard of."""
        return {
            task_id: (meta["status"], _moment(meta.get("date_done")))
            for task_id, meta in self._metas(list(task_ids))
            if meta
        }

    def _metas(self, task_ids: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
        """(task id, what Celery stored); an empty dictionary where there is nothing."""
        for batch in _batches(task_ids):
            found = self.mget([self.get_key_for_task(task_id) for task_id in batch])
            for task_id, value in zip(batch, found, strict=True):
                yield task_id, json.loads(value) if value else {}


def _batches(task_ids: list[str]) -> Iterator[list[str]]:
    for first in range(0, len(task_ids), _BATCH):
        yield task_ids[first : first + _BATCH]


def _moment(text: str | None) -> datetime:
    moment = datetime.fromisoformat(text) if text else datetime.now(UTC)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
