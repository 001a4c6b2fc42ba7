"""What a schedule's policy says happens, and the ledger says why. One real beat for all of it."""

import json
from datetime import timedelta
from itertools import pairwise

import pytest
from celery import current_app
from django.db import transaction
from django.utils import timezone
from django.utils.translation import override
from django_celery_results.models import TaskResult

from deadletters.models import DeadLetter
from monitoring import dashboard
from schedules import edit
from schedules.due import Every
from schedules.history import LATE, Beat, Broken, Occurrence
from schedules.models import Policy, Schedule
from schedules.pause import NotPaused, pause, resume
from schedules.recent import recent
from tests.processes import eventually
from tests.worker.beats import BeatProcess, every

pytestmark = [pytest.mark.worker, pytest.mark.django_db(transaction=True)]


@pytest.fixture(scope="module")
def running(django_db_setup, django_db_blocker, tmp_path_factory):
    # What it writes does not depend on its own language.
    process = BeatProcess(tmp_path_factory.mktemp("beat") / "beat.log", LANGUAGE_CODE="ja")
    yield process
    process.stop()


@pytest.fixture(autouse=True)
def beat(running, db):
    eventually(lambda: Beat.objects.filter(leads_since__isnull=False).exists(), what="the beat leads")
    return running


def behind(name, *, minutes, missed_for, **policy):
    """A schedule whose last run is some time ago."""
    with transaction.atomic():
        schedule = Schedule(name=name, task="tests.anything", queue="nobody-listens")
        edit.place(schedule, Every.parse(minutes, "minutes"))
        edit.save(schedule)
        Schedule.objects.filter(pk=schedule.pk).update(last_run_at=timezone.now() - missed_for)
        if policy:
            Policy.objects.create(schedule_id=schedule.pk, **policy)
    return schedule


def rows(name, number):
    """The first rows of its history, as soon as there are so many."""
    found = eventually(
        lambda: (
            list(Occurrence.objects.filter(name=name).exclude(state="claimed").order_by("due_at")[:number])
            if Occurrence.objects.filter(name=name).exclude(state="claimed").count() >= number
            else None
        ),
        what=f"{number} rows of {name}",
    )
    return [(one.state, one.folded) for one in found], found


def page(client, schedule, language):
    """The page of a schedule as somebody with this language sees it."""
    response = client.get(f"/schedules/schedule/{schedule.pk}/change/", headers={"Accept-Language": language})
    return response.content.decode()


def test_after_an_outage_each_schedule_is_caught_up_as_its_policy_says():
    ago = timedelta(minutes=10, seconds=30)
    behind("by default", minutes=1, missed_for=ago)
    behind("once", minutes=1, missed_for=ago, missed="once")
    behind("skip", minutes=1, missed_for=ago, missed="skip")
    behind("all", minutes=1, missed_for=ago, missed="all", catch_up_limit=3)
    behind("too late", minutes=5, missed_for=ago, grace=10)
    assert rows("by default", 1)[0] == [("sent", 9)]
    assert rows("once", 1)[0] == [("sent", 9)]
    assert rows("skip", 1)[0] == [("missed", 9)]
    assert rows("all", 4)[0] == [("missed", 6), ("sent", 0), ("sent", 0), ("sent", 0)]
    states, found = rows("too late", 1)
    assert states == [("missed", 1)]
    assert "grace time" in found[0].reason
    caught_up = Occurrence.objects.get(name="by default")
    assert [code for code, _facts in caught_up.why] == ["late", "stands_for"]
    assert caught_up.why[1][1] == {"number": 9}
    assert caught_up.sent_at - caught_up.due_at > LATE
    after = Schedule.objects.get(name="by default")
    assert after.last_run_at == caught_up.due_at  # no drift: the next one counts from it
    assert after.total_run_count == 1


def test_overlap_skip_lets_no_run_begin_while_the_one_before_is_alive(worker):
    every("Slow", task="tests.sleep", args=[2.5], policy={"overlap": "skip"})
    states, found = rows("Slow", 7)
    kinds = [state for state, _folded in states]
    assert kinds[:3] == ["sent", "skipped", "skipped"]
    assert kinds.count("sent") >= 2
    assert "still alive" in found[1].reason
    for before, after in pairwise(found):
        assert before.state != "sent" or after.state != "sent"


def test_overlap_is_known_of_tasks_that_store_no_result(worker):
    every("Silent", task="tests.sleep_silently", args=[1.5], policy={"overlap": "skip"})
    eventually(lambda: Occurrence.objects.filter(name="Silent", outcome="SUCCESS").count() >= 2, what="two ended")
    assert not TaskResult.objects.filter(periodic_task_name="Silent").exists()
    assert Occurrence.objects.filter(name="Silent", state="skipped").exists()


def test_overlap_queue_lets_one_wait_until_the_run_before_ends(worker):
    every("Queued", task="tests.sleep", args=[3], policy={"overlap": "queue"})
    eventually(lambda: TaskResult.objects.filter(status="SUCCESS").count() >= 2, what="two have run")
    first, second = Occurrence.objects.filter(name="Queued", state="sent").order_by("due_at")[:2]
    assert (second.due_at - first.due_at).total_seconds() == pytest.approx(1, abs=0.01)
    assert second.sent_at - first.sent_at > timedelta(seconds=2.5)
    assert "waited" in second.reason
    skipped = Occurrence.objects.filter(name="Queued", state="skipped").order_by("due_at").first()
    assert skipped.reason == "One waits already."


def test_a_run_that_waits_is_not_sent_after_its_schedule_was_turned_off(worker, admin_user):
    off, paused = (
        every(name, task="tests.sleep", args=[4], policy={"overlap": "queue"}) for name in ("Off", "Stopped")
    )
    waiting = Occurrence.objects.filter(state="waiting")
    eventually(lambda: waiting.values("name").distinct().count() == 2, what="one of each waits")
    Schedule.objects.filter(pk=off.pk).update(enabled=False)
    pause(paused, reason="the bank is closed", by=admin_user)
    eventually(lambda: not waiting.exists())
    for name in ("Off", "Stopped"):
        last = Occurrence.objects.filter(name=name, by="").order_by("due_at").filter(why=[["unwanted", {}]]).last()
        assert (last.state, last.sent_at) == ("skipped", None)


def test_a_pause_sends_nothing_and_what_fell_into_it_is_not_caught_up(admin_user):
    schedule = every("Paused", queue="nobody-listens")
    rows("Paused", 1)
    with pytest.raises(NotPaused):
        pause(schedule, reason=" ", by=admin_user)
    pause(schedule, reason="the bank is closed", by=admin_user)
    clock = every("Clock", queue="nobody-listens")
    rows("Clock", 2)
    before = Occurrence.objects.filter(name="Paused").count()
    rows("Clock", 5)
    assert Occurrence.objects.filter(name="Paused").count() == before
    assert resume(schedule, by=admin_user)
    skipped = eventually(lambda: Occurrence.objects.filter(name="Paused", state="skipped").first())
    assert skipped.reason == "It was paused: the bank is closed"
    assert skipped.why == [["in_pause", {"text": "the bank is closed"}]]
    assert skipped.folded >= 2
    eventually(lambda: Occurrence.objects.filter(name="Paused", state="sent", due_at__gt=skipped.due_at).count() >= 2)
    assert clock.pk


def test_a_pause_ends_by_itself(admin_user):
    schedule = every("Paused", queue="nobody-listens")
    pause(schedule, reason="a moment", by=admin_user, until=timezone.now() + timedelta(seconds=2))
    eventually(lambda: Occurrence.objects.filter(name="Paused", state="sent").count() >= 2)
    policy = Policy.objects.get(schedule_id=schedule.pk)
    assert (policy.paused_at, policy.paused_until) == (None, None)
    assert not Occurrence.objects.filter(name="Paused", state="sent", due_at__lt=policy.resumed_at).exclude(
        due_at__lt=policy.resumed_at - timedelta(seconds=2)
    )


def test_after_some_failures_in_a_row_a_schedule_is_paused_with_the_reason(worker, admin_client):
    schedule = every("Failing", task="tests.boom_callback", policy={"pause_after_failures": 2})
    policy = eventually(lambda: Policy.objects.filter(schedule_id=schedule.pk, paused_at__isnull=False).first())
    assert policy.pause_reason == "The last 2 runs failed."
    assert policy.pause_why == [["failures", {"number": 2}]]
    assert policy.paused_by == "beat"
    last = Occurrence.objects.filter(name="Failing").order_by("due_at").last()
    assert (last.state, last.reason) == ("skipped", "Paused. The last 2 runs failed.")
    # In the row of its pause, and twice in its history: the row and the tooltip.
    assert page(admin_client, schedule, "en").count("The last 2 runs failed.") >= 3
    assert page(admin_client, schedule, "ja").count("直近の 2 回の実行が失敗しました。") >= 3
    assert "failed." not in page(admin_client, schedule, "ja")


def test_what_beat_wrote_down_is_told_in_the_reader_s_language(admin_client):
    behind("caught up", minutes=1, missed_for=timedelta(minutes=10, seconds=30))
    behind("too late", minutes=5, missed_for=timedelta(minutes=10, seconds=30), grace=90)
    broken = every("Broken", queue="nobody-listens", task="tests.anything")
    Schedule.objects.filter(pk=broken.pk).update(headers="[1]")
    rows("caught up", 1)
    rows("too late", 1)
    eventually(lambda: Broken.objects.filter(schedule=broken.pk).exists(), what="it is marked")
    told = {
        "en": ("It stands for 9 that were missed, too.", "grace time of 1 m 30 s.", "headers must be a JSON object."),
        "ja": (
            "ほかに未実行 9 件分を代表しています。",
            "猶予時間 1 分 30 秒 を超え",
            "headers は JSON オブジェクトでなければなりません。",
        ),
    }
    for language, (caught_up, too_late, unusable) in told.items():
        assert caught_up in page(admin_client, Schedule.objects.get(name="caught up"), language)
        assert too_late in page(admin_client, Schedule.objects.get(name="too late"), language)
        with override(language):
            assert str(Broken.objects.get()) == unusable
        assert unusable in admin_client.get("/", headers={"Accept-Language": language}).content.decode()
    # Who reads the table or the JSON has English words, and codes with their facts.
    assert dashboard.as_dict(dashboard.figures())["broken_schedules"] == {
        "Broken": {"reason": told["en"][2], "why": [["no_object", {"field": "headers"}]]}
    }


def test_jitter_puts_each_run_off_by_its_own_time_and_keeps_the_due_time():
    # More jitter than what counts as missed: it is nobody's lateness.
    every("Jittered", queue="nobody-listens", policy={"jitter": 14, "missed": "skip"})
    states, found = rows("Jittered", 6)
    assert {state for state, _folded in states} == {"sent"}
    assert not any(one.folded or one.reason for one in found)
    waits = [(one.sent_at - one.due_at).total_seconds() for one in found]
    assert len({round(wait, 1) for wait in waits}) > 2
    assert all(wait >= 0 for wait in waits)
    gaps = {round((b.due_at - a.due_at).total_seconds()) for a, b in pairwise(found)}
    assert gaps == {1}


def test_start_and_end_are_kept_and_what_has_ended_turns_itself_off():
    start = timezone.now() + timedelta(seconds=2)
    end = start + timedelta(seconds=3.5)
    schedule = every("Framed", queue="nobody-listens", start_time=start, expires=end)
    eventually(lambda: not Schedule.objects.get(pk=schedule.pk).enabled, what="it turns itself off")
    due = list(Occurrence.objects.filter(name="Framed").order_by("due_at").values_list("due_at", "folded"))
    assert due[0][0] - start > -timedelta(milliseconds=2)
    assert due[-1][0] < end
    assert sum(1 + folded for _at, folded in due) == 4  # a beat on a busy machine may send two of them as one


def test_an_edit_by_any_means_takes_effect_within_two_seconds_and_counts_from_now():
    schedule = every("Edited", 1, "hours", queue="nobody-listens")
    fast = every("Fast", queue="nobody-listens").interval
    rows("Fast", 1)
    began = timezone.now()
    Schedule.objects.filter(pk=schedule.pk).update(interval=fast)
    _states, (first,) = rows("Edited", 1)
    assert first.due_at - began < timedelta(seconds=2)
    assert first.due_at - began > timedelta(seconds=0.9)
    # Off, on again: what fell in between is not made up for.
    Schedule.objects.filter(pk=schedule.pk).update(enabled=False)
    count = len(rows("Edited", 1)[1])
    rows("Fast", 5)
    Schedule.objects.filter(pk=schedule.pk).update(enabled=True)
    eventually(lambda: Occurrence.objects.filter(name="Edited").count() > count + 1)
    assert not Occurrence.objects.filter(name="Edited", folded__gt=0).exists()
    # A shared row of times, as the stock admin edits it.
    fast.every = 2
    fast.save()
    at = timezone.now()
    eventually(lambda: Occurrence.objects.filter(name="Fast", due_at__gt=at).count() >= 3)
    due = list(
        Occurrence.objects.filter(name="Fast", due_at__gt=at).order_by("due_at").values_list("due_at", flat=True)
    )
    assert {round((b - a).total_seconds()) for a, b in pairwise(due)} == {2}


def test_an_operators_open_transaction_delays_nobody():
    schedule = every("Held", queue="nobody-listens")
    rows("Held", 1)
    with transaction.atomic():
        Schedule.objects.select_for_update().get(pk=schedule.pk)
        count = Occurrence.objects.filter(name="Held").count()
        eventually(lambda: Occurrence.objects.filter(name="Held").count() > count + 2, patience=10)
    due = list(Occurrence.objects.filter(name="Held").order_by("due_at").values_list("due_at", flat=True))
    assert {round((b - a).total_seconds()) for a, b in pairwise(due)} == {1}
    assert json.loads(schedule.args or "[]") == []


def test_thousands_that_one_statement_edits_are_known_to_the_beat_in_moments():
    clock = every("Clock", queue="nobody-listens")
    hourly = every("Hourly", 1, "hours").interval
    many = [Schedule(name=f"{n}", task="tests.anything", interval=hourly) for n in range(3000)]
    Schedule.objects.bulk_create(many)

    def known():
        return Beat.objects.get(leads_since__isnull=False).schedules

    eventually(lambda: known() == 3002, patience=10, what="3,000 new ones are known")
    Schedule.objects.filter(interval=hourly).update(enabled=False)
    eventually(lambda: known() == 1, patience=10, what="that they are off is known")
    rows("Clock", 3)
    due = list(Occurrence.objects.filter(name="Clock").order_by("due_at").values_list("due_at", flat=True))
    assert {round((b - a).total_seconds()) for a, b in pairwise(due)} == {1}
    assert clock.pk


def test_stock_models_and_their_saves_reach_the_beat_too():
    from django_celery_beat.models import IntervalSchedule, PeriodicTask

    second, _new = IntervalSchedule.objects.get_or_create(every=1, period="seconds")
    task = PeriodicTask.objects.create(name="Stock", task="tests.anything", interval=second, queue="nobody-listens")
    rows("Stock", 2)
    task.refresh_from_db()
    task.enabled = False
    task.save()
    every("Clock", queue="nobody-listens")
    rows("Clock", 2)
    count = Occurrence.objects.filter(name="Stock").count()
    rows("Clock", 4)
    assert Occurrence.objects.filter(name="Stock").count() == count
    task.delete()
    assert Occurrence.objects.filter(name="Stock").exists()


def test_a_run_whose_task_was_replaced_is_alive_until_the_replacement_ends(worker):
    every("Replaced", task="tests.replace_by_sleep", args=[3.5], policy={"overlap": "skip"})
    states, _found = rows("Replaced", 6)
    assert [state for state, _folded in states][:3] == ["sent", "skipped", "skipped"]
    assert "sent" in [state for state, _folded in states[1:]]


def test_a_message_that_expired_is_no_run_that_is_alive(worker):
    """Of a task that stores no result: nothing else would say that it ended."""
    policy = {"overlap": "skip"}
    every("Late", task="tests.sleep_silently", args=[0], queue="late", expire_seconds=1, policy=policy)
    states, _found = rows("Late", 4)
    assert [state for state, _folded in states] == ["sent", "skipped", "skipped", "skipped"]
    current_app.control.add_consumer("late", reply=True)
    try:
        eventually(lambda: Occurrence.objects.filter(name="Late", outcome="SUCCESS").exists(), what="the next one runs")
    finally:
        current_app.control.cancel_consumer("late", reply=True)
    first = Occurrence.objects.filter(name="Late").order_by("due_at").first()
    assert first.outcome == "REVOKED"


def test_a_lost_run_that_is_replayed_has_the_outcome_of_its_replay(worker):
    schedule = every("Lost", task="tests.vanish", one_off=True)

    def runs(mark):
        return [run for run in recent([schedule], letters=False)[schedule.pk].past if run.mark == mark]

    (lost,) = eventually(lambda: runs("failed"), what="it is lost")
    eventually(lambda: DeadLetter.objects.filter(task_id=lost.task_id).exists(), what="its letter is written")
    TaskResult.objects.filter(task_id=lost.task_id).update(status="SUCCESS")
    assert runs("succeeded")
