from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schedules import due
from schedules.due import BadTiming, Cron, Every, Once

BERLIN = ZoneInfo("Europe/Berlin")
TOKYO = ZoneInfo("Asia/Tokyo")
MONDAY = datetime(2026, 11, 23, tzinfo=UTC)


def runs(timing, after, count=10):
    return list(islice(due.next_runs(timing.schedule(), last=after, now=after), count))


def numbers(lowest, highest):
    one = st.integers(lowest, highest).map(str)
    span = st.tuples(st.integers(lowest, highest), st.integers(lowest, highest)).map(
        lambda pair: f"{pair[0]}-{pair[1]}"
    )
    step = st.integers(1, highest).map(lambda n: f"*/{n}")
    return st.lists(st.one_of(one, span, step, st.just("*")), min_size=1, max_size=3).map(",".join)


LINES = st.tuples(numbers(0, 59), numbers(0, 23), numbers(1, 28), numbers(1, 12), numbers(0, 6)).map(" ".join)
OFTEN = st.tuples(numbers(0, 59), numbers(0, 23)).map(lambda pair: f"{pair[0]} {pair[1]} * * *")
ZONES = st.sampled_from(
    ["Asia/Tokyo", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "UTC"]
)
# Around both changes of the clocks in both hemispheres, and in between.
MOMENTS = st.datetimes(datetime(2026, 3, 1), datetime(2026, 11, 30), timezones=st.just(UTC))


@given(line=OFTEN, zone=ZONES, start=MOMENTS)
@settings(max_examples=20, deadline=None)
def test_the_preview_is_what_beat_would_fire_minute_by_minute(line, zone, start):
    timing = Cron.parse(line, ZoneInfo(zone))
    schedule = timing.schedule()
    clock = start.replace(second=0, microsecond=0)
    last, fired = start, []
    schedule.nowfun = lambda: clock.astimezone(schedule.tz)
    while clock < start + timedelta(hours=30):  # a day, with an hour that comes twice
        clock += timedelta(minutes=1)
        if schedule.is_due(last).is_due:
            fired.append(clock)
            last = clock
    previewed = takewhile(lambda run: run <= clock, due.next_runs(timing.schedule(), last=start, now=start))
    assert list(previewed) == fired


@given(line=LINES, zone=ZONES, start=MOMENTS)
@settings(max_examples=50, deadline=None)
def test_every_line_that_is_accepted_runs_in_order_and_has_words(line, zone, start):
    timing = Cron.parse(line, ZoneInfo(zone))
    found = runs(timing, start, 3)
    assert len(found) == 3
    assert found == sorted(set(found))
    assert found[0] > start
    assert timing.words()


@given(text=st.text(max_size=30))
@settings(max_examples=300, deadline=None)
def test_no_text_breaks_the_parser(text):
    with suppress(BadTiming):
        assert len(Cron.parse(text, TOKYO).fields) == 5


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("31 2", "five fields"),
        ("@daily", "five fields"),
        ("0 0 30 2 *", "would never run"),
        ("0 0 31 4,6 *", "would never run"),
        ("0 0 * * 7", "Write 0 for Sunday"),
        ("0 0 * * 5-7", "Write 0 for Sunday"),
        ("61 * * * *", "Minute is 0 to 59, not 61"),
        ("* 24 * * *", "Hour is 0 to 23, not 24"),
        ("* * 0 * *", "Day of month is 1 to 31, not 0"),
        ("*/0 * * * *", "step is 1 to 59"),
        ("*/90 * * * *", "step is 1 to 59"),
        ("5/10 * * * *", "cannot be read"),
        ("1-5/2/3 * * * *", "cannot be read"),
        ("1,,2 * * * *", "cannot be read"),
        ("-1 * * * *", "cannot be read"),
        ("mon * * * *", "is no minute"),
        ("0 0 * foo *", "is no month"),
    ],
)
def test_a_cron_line_that_cannot_be_is_refused_with_its_reason(line, says):
    with pytest.raises(BadTiming, match=says) as refusal:
        Cron.parse(line, TOKYO)
    assert refusal.value.field == "cron"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("0 9 * * *", "Every day at 09:00"),
        ("0 9 * * 1-5", "At 09:00, Monday through Friday"),
        ("0 * * * *", "Every hour"),
        ("*/15 6-20 * * mon-fri", "Every 15 minutes, between 06:00 and 20:59, Monday through Friday"),
        ("0 0 1 * *", "At 00:00, on day 1 of the month"),
    ],
)
def test_a_cron_line_is_told_in_words(line, words):
    assert Cron.parse(line, TOKYO).words() == words


def test_an_interval_and_a_moment_are_told_in_words():
    assert Every.parse(30, "seconds").words() == "Every 30 seconds"
    assert Every.parse(1, "hours").words() == "Every hour"
    assert Once(at=datetime(2026, 12, 1, 9, tzinfo=TOKYO)).words() == "Once, on 1 December 2026 at 09:00"


def test_nine_in_tokyo_is_midnight_in_utc():
    assert runs(Cron.parse("0 9 * * *", TOKYO), MONDAY + timedelta(minutes=1), 2) == [
        datetime(2026, 11, 24, tzinfo=UTC),
        datetime(2026, 11, 25, tzinfo=UTC),
    ]


def test_an_hour_that_does_not_exist_runs_an_hour_later():
    before = datetime(2026, 3, 28, 12, tzinfo=UTC)
    assert [run.astimezone(BERLIN).hour for run in runs(Cron.parse("30 2 * * *", BERLIN), before, 2)] == [3, 2]


def test_an_overdue_schedule_runs_now_and_then_goes_on():
    last = MONDAY - timedelta(days=3)
    found = list(islice(due.next_runs(Every.parse(1, "hours").schedule(), last=last, now=MONDAY), 2))
    assert found == [MONDAY, MONDAY + timedelta(hours=1)]


def test_day_of_month_and_weekday_together_are_warned_of():
    assert "match both" in Cron.parse("0 0 13 * 5", TOKYO).warning()
    assert not Cron.parse("0 0 13 * *", TOKYO).warning()


@pytest.mark.parametrize(("number", "period"), [(0, "seconds"), (-5, "minutes"), (4000, "days")])
def test_an_interval_that_cannot_be_is_refused(number, period):
    with pytest.raises(BadTiming) as refusal:
        Every.parse(number, period)
    assert refusal.value.field == "every"


def test_a_zone_that_is_mistyped_is_answered_with_the_right_one():
    with pytest.raises(BadTiming, match="Asia/Tokyo"):
        due.parse_zone("Asia/Tokio")


def test_a_start_date_holds_the_first_run_back_until_it():
    start = MONDAY + timedelta(hours=9)
    every, cron = Every.parse(10, "minutes").schedule(), Cron.parse("0 9 * * *", ZoneInfo("UTC")).schedule()
    for schedule in (every, cron):
        anchor = due.anchor(schedule, changed=MONDAY, start=start)
        assert next(due.next_runs(schedule, last=anchor, now=start)) == start
    assert due.anchor(every, changed=start, start=MONDAY) == start
