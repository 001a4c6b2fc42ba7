"""What becomes of due times, by each policy. Times are seconds; now is 1000."""

import pytest

from schedules.decide import Rules, Situation, decide
from schedules.reasons import plain

NOW = 1000.0


def told(due, rules=None, situation=None, count=None):
    verdicts = decide(due, count or len(due), NOW, rules or Rules(), situation or Situation())
    return [(v.due_at, v.state.value, v.folded) for v in verdicts]


def test_what_is_due_now_is_sent():
    assert told([NOW]) == [(NOW, "claimed", 0)]


def test_a_failover_of_seconds_loses_nothing_whatever_the_policy():
    due = [NOW - 4, NOW - 3, NOW - 2, NOW - 1, NOW]
    for missed in ("once", "skip", "all"):
        assert told(due, Rules(missed=missed)) == [(at, "claimed", 0) for at in due]


def test_what_an_ended_schedule_missed_is_not_sent_for_its_messages_expire_at_once():
    due = [NOW - 30, NOW - 20, NOW - 2]
    (verdict,) = decide(due, 5, NOW, Rules(missed="all", ends=NOW - 1), Situation())
    assert (verdict.due_at, verdict.state.value, verdict.folded) == (NOW - 2, "missed", 4)
    assert plain(verdict.why) == "The schedule ended before this could be sent."
    assert told([NOW], Rules(ends=NOW + 1)) == [(NOW, "claimed", 0)]


def test_what_jitter_put_off_is_neither_late_nor_missed():
    due, ready = [400.0, 500.0, 600.0], [900.0, NOW - 1, NOW - 1]
    for rules in (Rules(missed="skip"), Rules(grace=60)):
        verdicts = decide(due[1:], 2, NOW, rules, Situation(), ready[1:])
        assert [(v.due_at, v.state.value, plain(v.why), v.folded) for v in verdicts] == [
            (500.0, "claimed", "", 0), (600.0, "claimed", "", 0),
        ]  # fmt: skip
    verdicts = decide(due, 3, NOW, Rules(missed="skip"), Situation(), ready)
    assert [v.state.value for v in verdicts] == ["missed", "claimed", "claimed"]


def test_after_an_outage_once_runs_for_the_newest_and_counts_the_others():
    assert told([400.0, 500.0, 600.0], count=7) == [(600.0, "claimed", 6)]
    assert told([400.0, 500.0, NOW]) == [(NOW, "claimed", 2)]


def test_after_an_outage_skip_runs_none_and_says_so_once():
    verdicts = decide([400.0, 500.0, NOW], 3, NOW, Rules(missed="skip"), Situation())
    assert [(v.due_at, v.state.value, v.folded) for v in verdicts] == [(500.0, "missed", 1), (NOW, "claimed", 0)]
    assert "nothing could be sent" in plain(verdicts[0].why)


def test_after_an_outage_all_runs_as_many_as_its_limit_and_folds_the_oldest():
    rules = Rules(missed="all", catch_up_limit=2)
    assert told([400.0, 500.0, 600.0], rules) == [(400.0, "missed", 0), (500.0, "claimed", 0), (600.0, "claimed", 0)]
    assert told([500.0, 600.0], rules, count=9)[0] == (499.999, "missed", 6)


def test_nothing_starts_later_than_its_grace_time():
    rules = Rules(missed="all", grace=450)
    verdicts = decide([400.0, 500.0, 600.0], 3, NOW, rules, Situation())
    assert [(v.due_at, v.state.value, v.folded) for v in verdicts] == [(500.0, "missed", 1), (600.0, "claimed", 0)]
    assert "grace time of 7 m 30 s" in plain(verdicts[0].why)


def test_what_fell_into_a_pause_is_not_caught_up():
    rules = Rules(paused_to=550.0, pause_reason="the bank is closed")
    verdicts = decide([400.0, 500.0, 600.0], 3, NOW, rules, Situation())
    assert [(v.due_at, v.state.value, v.folded) for v in verdicts] == [(500.0, "skipped", 1), (600.0, "claimed", 0)]
    assert plain(verdicts[0].why) == "It was paused: the bank is closed"


def test_what_is_sent_late_says_how_late():
    assert plain(decide([400.0], 1, NOW, Rules(), Situation())[0].why) == "Sent 10 m late."
    assert not decide([NOW], 1, NOW, Rules(), Situation())[0].why
    several = decide([400.0, 500.0, 600.0], 3, NOW, Rules(), Situation())[0].why
    assert plain(several) == "Sent 6 m 40 s late. It stands for 2 that were missed, too."


@pytest.mark.parametrize(
    ("overlap", "situation", "states"),
    [
        ("allow", Situation(alive=True), ["claimed", "claimed"]),
        ("skip", Situation(alive=True), ["skipped", "skipped"]),
        ("skip", Situation(), ["claimed", "skipped"]),
        ("queue", Situation(), ["claimed", "waiting"]),
        ("queue", Situation(alive=True), ["waiting", "skipped"]),
        ("queue", Situation(alive=True, waiting=True), ["skipped", "skipped"]),
    ],
)
def test_overlap_depends_on_whether_the_run_before_is_alive(overlap, situation, states):
    assert [state for _at, state, _folded in told([NOW - 1, NOW], Rules(overlap=overlap), situation)] == states


def test_a_schedule_whose_runs_fail_sends_nothing_more_and_says_why():
    verdict = decide([NOW], 1, NOW, Rules(), Situation(failing=3))[0]
    assert (verdict.state.value, plain(verdict.why)) == ("skipped", "Paused. The last 3 runs failed.")
    rules = Rules(paused_to=550.0, pause_reason="The last run failed.", pause_why=[("failures", {"number": 1})])
    assert plain(decide([500.0], 1, NOW, rules, Situation())[0].why) == "It was paused. The last run failed."
