"""What was written down is told in the language of whoever reads it, however long ago it was written."""

import ast
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.utils import timezone
from django.utils.translation import override

import schedules
from schedules import edit
from schedules.history import Broken, Occurrence
from schedules.models import Policy, Schedule
from schedules.pause import pause, resume
from schedules.reasons import WORDS, plain, reason, words
from schedules.spec import spec_of
from schedules.trail import history


def page(client, schedule, language, name="change"):
    response = client.get(f"/schedules/schedule/{schedule.pk}/{name}/", headers={"Accept-Language": language})
    return response.content.decode()


def test_several_reasons_are_sentences_in_the_language_of_the_reader():
    why = [reason("late", seconds=190), reason("stands_for", number=1)]
    assert plain(why) == "Sent 3 m 10 s late. It stands for 1 that was missed, too."
    with override("ja"):
        assert words(why) == "3 分 10 秒 遅れて送信。 ほかに未実行 1 件分を代表しています。"
        assert plain(why).startswith("Sent 3 m 10 s late.")
    assert words(None, "of before") == words([], "of before") == "of before"
    assert words([["of a newer version", {}]], "its words") == "its words"
    assert words([["late", {"of": "another version"}]], "its words") == "its words"
    assert words(["of somebody else"], "its words") == "its words"


def test_what_a_person_wrote_stays_as_it_is():
    assert plain([reason("in_pause", text="100 %(text)s {0} %d")]) == "It was paused: 100 %(text)s {0} %d"


def test_every_code_that_is_written_has_words():
    written = set()
    for path in Path(schedules.__path__[0]).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
                codes = node.args[{"reason": 0, "Unusable": 0, "acted": 2}.get(name, 99) :][:1]
                written |= {part.value for code in codes for part in ast.walk(code) if isinstance(part, ast.Constant)}
    assert written == set(WORDS)


@pytest.mark.django_db
def test_postgresql_takes_whatever_a_text_holds(schedule):
    why = [reason("in_pause", text="a\0b\ud800" + "x" * 600)]
    Occurrence.objects.create(id=uuid4(), schedule=schedule, name="Ten", due_at=timezone.now(), why=why)
    ((_code, facts),) = Occurrence.objects.get().why
    assert facts["text"] == "ab?" + "x" * 497


@pytest.mark.django_db
def test_rows_of_before_keep_their_words(admin_client, schedule, admin_user):
    due = timezone.now() - timedelta(minutes=5)
    facts = {"name": "Ten", "due_at": due, "state": "skipped", "reason": "The bank was closed."}
    Occurrence.objects.create(id=uuid4(), schedule=schedule, **facts)
    Policy.objects.create(schedule=schedule, paused_at=due, pause_reason="the last 2 runs failed.", paused_by="beat")
    Broken.objects.create(schedule=Schedule.objects.create(name="Old", interval=schedule.interval), reason="It is old.")
    LogEntry.objects.create(
        user=admin_user, content_type=ContentType.objects.get_for_model(Schedule, for_concrete_model=False),
        object_id=schedule.pk, action_flag=CHANGE, change_message="Paused: for the audit",
    )  # fmt: skip
    for language in ("en", "ja"):
        shown = page(admin_client, schedule, language)
        assert "The bank was closed." in shown
        assert "the last 2 runs failed." in shown
        assert "Paused: for the audit" in page(admin_client, schedule, language, "history")
        assert "It is old." in admin_client.get("/", headers={"Accept-Language": language}).content.decode()


@pytest.mark.django_db
def test_the_history_is_told_in_the_reader_s_language_whoever_acted_in_which(admin_client, admin_user, schedule):
    with override("ja"):
        schedule.queue = "slow"
        edit.save(schedule, by=admin_user)
        edit.switch(schedule, on=False, by=admin_user)
        pause(schedule, reason="監査", by=admin_user, until=timezone.now() + timedelta(days=1))
        assert resume(schedule, by=admin_user)
        pause(schedule, reason="監査", by=admin_user)
    with override("en"):
        english = [act.words for act in history(schedule)]
        logged = [entry.get_change_message() for entry in LogEntry.objects.order_by("pk")]
    assert english[:2] == ["Paused: 監査", "Resumed."]
    assert english[2].startswith("Paused until ")
    assert english[3:] == ["Disabled.", "Changed Queue."]
    shown = page(admin_client, schedule, "ja", "history")
    for said in ("一時停止: 監査", "再開しました。", "まで一時停止: 監査", "無効にしました。", "キュー"):
        assert said in shown
    assert "Queue" not in shown
    # Who reads the admin's own log is told what was changed, too.
    assert logged == ["Changed Queue.", "Changed On.", *["Changed Paused."] * 3]


@pytest.mark.django_db
def test_a_person_s_pause_takes_the_place_of_beat_s(admin_client, admin_user, schedule):
    failures = [reason("failures", number=3)]
    policy = Policy.objects.create(
        schedule=schedule, paused_at=timezone.now(), pause_reason=plain(failures), pause_why=failures, paused_by="beat"
    )
    assert "直近の 3 回の実行が失敗しました。" in page(admin_client, schedule, "ja")
    # A file that is exported here and imported there is in no language of a process.
    with override("ja"):
        assert spec_of(Schedule.objects.get())["paused"]["reason"] == "The last 3 runs failed."
    pause(Schedule.objects.get(), reason="for the audit", by=admin_user)
    policy.refresh_from_db()
    assert (policy.pause_words, policy.pause_why) == ("for the audit", None)
