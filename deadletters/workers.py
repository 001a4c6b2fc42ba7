"""What living workers note down for the moment they cannot speak any more."""

import uuid
from datetime import timedelta
from typing import Any

from django.db import connection, models
from django.utils.translation import gettext_lazy as _


class Worker(models.Model):
    """A worker's main process, from its start to its end. Times are PostgreSQL's: no machine's clock is asked who is late."""

    # A process's own: one that is started again under the same name is another worker.
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    name = models.CharField(_("name"), max_length=255)
    started_at = models.DateTimeField(_("started"))
    seen_at = models.DateTimeField(_("last sign of life"), db_index=True)
    # null: nobody buries it. Else when somebody began to: a lease, for a reaper can die, too.
    claimed_at = models.DateTimeField(_("claimed"), null=True)

    class Meta:
        verbose_name = _("worker")
        verbose_name_plural = _("workers")
        default_permissions = ()

    def __str__(self) -> str:
        return self.name


class EarlyStart(models.Model):
    """A running task whose message the broker has forgotten already: only tasks with `acks_late=False` have such a row."""

    # Without a constraint: the first task may start before the first heartbeat is written.
    worker_id = models.UUIDField(db_index=True)
    # The death it will have been if its worker vanishes, as `ledger` packs it.
    record = models.BinaryField()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.pk}"


class Starts(models.Model):
    """How often a redelivered message was begun; messages that are delivered once, as nearly all are, have no row."""

    task_id = models.CharField(max_length=255, primary_key=True)
    # Replay and retry number: each of them begins to count anew.
    attempt = models.CharField(max_length=32)
    starts = models.PositiveIntegerField()
    at = models.DateTimeField(db_index=True)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.task_id} {self.starts}"


_TABLE, _EARLY = Worker._meta.db_table, EarlyStart._meta.db_table


def beat(worker_id: uuid.UUID, name: str) -> None:
    """This worker is alive now."""
    with connection.cursor() as cursor:
        cursor.execute(
            # S608: the table's name is ours.
            f"INSERT INTO {_TABLE} (id, name, started_at, seen_at) VALUES (%s, %s, now(), now())"  # noqa: S608
            " ON CONFLICT (id) DO UPDATE SET seen_at = now(), claimed_at = NULL",
            [worker_id, name],
        )


def heard_of(worker_id: uuid.UUID, name: str) -> None:
    """This worker was alive once. If it gives no sign of life from now on, it is missed."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {_TABLE} (id, name, started_at, seen_at) VALUES (%s, %s, now(), now()) ON CONFLICT DO NOTHING",  # noqa: S608
            [worker_id, name],
        )


def begun(key: int, worker_id: uuid.UUID, record: bytes) -> None:
    """This worker runs an early-acknowledged task.

    Its predecessor of the same name may have noted the same, and been killed before its acknowledgement was sent: of the two it is the
    one that was heard of last.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {_EARLY} AS early (id, worker_id, record) VALUES (%s, %s, %s)"  # noqa: S608
            " ON CONFLICT (id) DO UPDATE SET worker_id = excluded.worker_id, record = excluded.record"
            f" WHERE NOT EXISTS (SELECT FROM {_TABLE} AS theirs, {_TABLE} AS ours WHERE theirs.id = early.worker_id"
            " AND ours.id = excluded.worker_id AND theirs.seen_at > ours.seen_at)",
            [key, worker_id, record],
        )


def leave(worker_id: uuid.UUID) -> None:
    """This worker ends as it should. What it leaves behind all the same is for the reaper."""
    if not EarlyStart.objects.filter(worker_id=worker_id).exists():
        Worker.objects.filter(pk=worker_id).delete()


def alive(silence: timedelta) -> set[uuid.UUID]:
    """The workers that gave a sign of life within `silence`."""
    return {row for (row,) in _select("SELECT id FROM {table} WHERE seen_at >= now() - %s", silence)}


def silent(silence: timedelta) -> dict[uuid.UUID, str]:
    """Name by id of the workers without a sign of life for `silence`; none while PostgreSQL itself was away within that time."""
    rows = _select(
        "SELECT id, name FROM {table} WHERE seen_at < now() - %s AND pg_postmaster_start_time() < now() - %s",
        silence,
        silence,
    )
    return dict(rows)


def claim(worker_id: uuid.UUID, silence: timedelta) -> bool:
    """Whether this process is the one that buries that worker: of two reapers one gets it, for as long as `silence`."""
    return bool(
        _select(
            "UPDATE {table} SET claimed_at = now() WHERE id = %s AND seen_at < now() - %s"
            " AND (claimed_at IS NULL OR claimed_at < now() - %s) RETURNING id",
            worker_id,
            silence,
            silence,
        )
    )


def forget(worker_id: uuid.UUID, silence: timedelta) -> None:
    """It is buried; unless it came back meanwhile."""
    _select("DELETE FROM {table} WHERE id = %s AND seen_at < now() - %s RETURNING id", worker_id, silence)


def _select(statement: str, *values: Any) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement.format(table=_TABLE), list(values))
        rows: list[tuple[Any, ...]] = cursor.fetchall()
        return rows
