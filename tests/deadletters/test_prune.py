"""Retention by age and by number, each state for itself, without standing in anybody's way."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.core.checks import run_checks
from django.db import connection, transaction
from django.utils import timezone

from deadletters.models import DeadLetter, ErrorGroup, Event, State
from deadletters.prune import Retention, prune_errors, prune_letters
from deadletters.replay.discard import discard, restore
from monitoring import retention
from tests.deadletters.letters import letter
from tests.processes import manage

pytestmark = pytest.mark.django_db(transaction=True)

DAYS_90 = Retention(age=timedelta(days=90))
OLD = timedelta(days=100)


def old(state, **fields):
    return letter(state=state, died_at=timezone.now() - OLD, **fields)


def many(number, state=State.RESOLVED):
    """`number` letters, a second apart, the newest of them 100 days old."""
    with connection.cursor() as cursor:
        cursor.execute(
            """INSERT INTO deadletters_deadletter (task_id, task_name, state, cause, fingerprint, exception_type, exception_message, traceback, worker,
                   retries, died_at, deaths, replay_number, headers, properties, body, content_type, content_encoding, exchange, routing_key, queue,
                   root_id, parent_id, group_id)
               SELECT 'task-' || n, 'tests.die', %s, 'exception', 'f', 'E', '', '', '', 0, now() - interval '100 days' - n * interval '1 second',
                   1, 0, '{}', '{}', '', '', '', '', '', '', '', '', '' FROM generate_series(1, %s) n""",
            [state, number],
        )


def left():
    return sorted(DeadLetter.objects.values_list("state", flat=True))


def test_finished_letters_go_by_age_and_waiting_ones_stay():
    for state in State:
        old(state)
        letter(state=state)
    keep = dict.fromkeys((State.RESOLVED, State.DISCARDED), DAYS_90)
    assert prune_letters(keep, dry_run=True) == {State.RESOLVED: 1, State.DISCARDED: 1}
    assert prune_letters(keep) == {State.RESOLVED: 1, State.DISCARDED: 1}
    assert left() == ["discarded", "open", "open", "replaying", "replaying", "resolved"]
    assert Event.objects.count() == 6


def test_age_counts_from_the_last_thing_that_happened_to_a_letter():
    given_up, restored, spare = old(State.OPEN), old(State.DISCARDED), old(State.DISCARDED)
    discard(given_up, by=None, reason="a mistake")
    restore(restored, by=None)
    keep = dict.fromkeys((State.DISCARDED, State.OPEN), DAYS_90)
    assert prune_letters(keep, dry_run=True) == {State.DISCARDED: 1, State.OPEN: 0}
    assert prune_letters(keep) == {State.DISCARDED: 1, State.OPEN: 0}
    assert set(DeadLetter.objects.values_list("pk", flat=True)) == {given_up.pk, restored.pk}
    Event.objects.update(at=timezone.now() - timedelta(days=91))
    assert prune_letters(keep) == {State.DISCARDED: 1, State.OPEN: 1}
    assert spare.pk not in DeadLetter.objects.values_list("pk", flat=True)


def test_what_is_too_many_goes_whatever_happened_to_it():
    many(3, State.DISCARDED)
    oldest = letter(died_at=timezone.now() - OLD - timedelta(minutes=1))
    discard(oldest, by=None, reason="a mistake")
    keep = {State.DISCARDED: Retention(number=2, age=timedelta(days=101))}
    assert prune_letters(keep) == {State.DISCARDED: 2}
    assert set(DeadLetter.objects.values_list("task_id", flat=True)) == {"task-1", "task-2"}


def test_an_error_goes_when_none_of_its_letters_is_left_and_nobody_said_anything_of_it():
    def error(name, ago=OLD, **fields):
        seen = timezone.now() - ago
        ErrorGroup.objects.create(fingerprint=name, cause="exception", first_seen=seen, last_seen=seen, **fields)

    error("gone")
    error("given up", state=ErrorGroup.State.DISCARDED)
    error("resolved", state=ErrorGroup.State.RESOLVED)
    error("noted", note="ticket 12")
    error("new", timedelta(days=80))
    error("has a letter")
    old(State.DISCARDED, fingerprint="has a letter")
    before = ErrorGroup.objects.count()
    assert prune_errors(timedelta(days=90), dry_run=True) == 2
    assert ErrorGroup.objects.count() == before
    assert prune_errors(timedelta(days=90)) == 2
    assert not ErrorGroup.objects.filter(pk__in=("gone", "given up")).exists()
    assert ErrorGroup.objects.count() == before - 2


def test_an_error_whose_next_death_is_being_written_is_passed_over():
    seen = timezone.now() - OLD
    for number in range(3):
        ErrorGroup.objects.create(fingerprint=str(number), cause="exception", first_seen=seen, last_seen=seen)
    with transaction.atomic(), ThreadPoolExecutor(1) as elsewhere:
        ErrorGroup.objects.filter(pk="1").update(last_seen=timezone.now())
        assert elsewhere.submit(_prune_errors_and_close).result(timeout=30) == 2
    assert list(ErrorGroup.objects.values_list("pk", flat=True)) == ["1"]


def _prune_errors_and_close():
    try:
        return prune_errors(timedelta(days=90))
    finally:
        connection.close()


def test_of_too_many_the_newest_stay():
    many(30)
    newest = letter(state=State.RESOLVED)
    keep = {State.RESOLVED: Retention(number=10)}
    assert prune_letters(keep, dry_run=True) == {State.RESOLVED: 21}
    assert prune_letters(keep) == {State.RESOLVED: 21}
    assert set(DeadLetter.objects.values_list("task_id", flat=True)) == {
        newest.task_id,
        *(f"task-{n}" for n in range(1, 10)),
    }
    assert prune_letters({State.RESOLVED: Retention(number=10, age=timedelta(days=1))}) == {State.RESOLVED: 9}
    assert prune_letters({State.RESOLVED: Retention()}) == {}


def test_open_letters_go_only_if_somebody_says_so_and_then_it_is_said(settings):
    old(State.OPEN)
    assert retention.prune(1).open_dead_letters == 0
    assert left() == ["open"]
    settings.DEADLETTERS_RETENTION_DAYS = {"open": 99}
    assert "deadletters.I002" in {message.id for message in run_checks(include_deployment_checks=True)}
    dry = manage("prune", "--dry-run", DEADLETTERS_RETENTION_DAYS="open=99")
    assert "1 open dead letters would be deleted, too" in dry.stdout
    done = manage("prune", "--json", DEADLETTERS_RETENTION_DAYS="open=99")
    assert '"open_dead_letters": 1' in done.stdout
    assert "pruned.open_dead_letters" in done.stderr
    assert left() == []


def test_each_state_has_an_age_of_its_own(settings):
    settings.RETENTION_DAYS, settings.DEADLETTERS_RETENTION_DAYS = 90, {"discarded": 365}
    old(State.RESOLVED)
    old(State.DISCARDED)
    assert retention.prune().dead_letters == 1
    assert left() == ["discarded"]
    assert retention.prune(30).dead_letters == 1


def test_a_hundred_thousand_go_in_short_transactions(transactional_db):
    many(100_000)
    held = []

    def tell(gone):
        with connection.cursor() as cursor:  # between two batches: nothing of them is locked any more
            cursor.execute(
                "SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND relation = 'deadletters_deadletter'::regclass"
            )
            held.append((gone, cursor.fetchone()[0]))

    assert prune_letters({State.RESOLVED: DAYS_90}, tell=tell) == {State.RESOLVED: 100_000}
    assert len(held) == 100
    assert {locks for _gone, locks in held} == {0}


def test_nobody_waits_for_the_pruning_and_it_waits_for_nobody():
    first, second = old(State.RESOLVED), old(State.RESOLVED)
    other = connection.copy()
    try:
        with other.cursor() as cursor, transaction.atomic(using="default"):
            cursor.execute("BEGIN")
            cursor.execute("SELECT FROM deadletters_deadletter WHERE id = %s FOR UPDATE", [first.pk])
            with connection.cursor() as mine:
                mine.execute("SET LOCAL lock_timeout = '1ms'")  # waiting for anything fails
            assert prune_letters({State.RESOLVED: DAYS_90}) == {State.RESOLVED: 1}
            # What the deletion holds until its commit lets others insert and change letters.
            with connection.cursor() as mine:
                mine.execute(
                    "SELECT DISTINCT mode FROM pg_locks WHERE pid = pg_backend_pid() AND relation = 'deadletters_deadletter'::regclass"
                )
                assert {mode for (mode,) in mine.fetchall()} <= {"AccessShareLock", "RowShareLock", "RowExclusiveLock"}
            cursor.execute("SET LOCAL lock_timeout = '1ms'")
            cursor.execute("UPDATE deadletters_deadletter SET state = 'open' WHERE id = %s", [first.pk])
            cursor.execute(
                "INSERT INTO deadletters_event (dead_letter_id, kind, at, replay_number, text) VALUES (%s, 'read', now(), 0, '')",
                [first.pk],
            )
            cursor.execute("COMMIT")
    finally:
        other.close()
    assert list(DeadLetter.objects.values_list("pk", "state")) == [(first.pk, "open")]
    assert second.pk != first.pk
