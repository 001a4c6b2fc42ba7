from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise, takewhile
from zoneinfo import ZoneInfo

import pytest
from celery.schedules import crontab
from django.utils.translation import override
from hypothesis import given, settings
from hypothesis import strategies as st

from schedules import due
from schedules.due import BadTiming, Cron, Every, Once, Solar

BERLIN = ZoneInfo("Europe/Berlin")
TOKYO = ZoneInfo("Asia/Tokyo")
MINUTE = timedelta(minutes=1)
MONDAY = datetime(2026, 11, 23, tzinfo=UTC)


def runs(timing, after, count=10):
    return list(islice(due.next_runs(timing, anchor=after.timestamp(), now=after.timestamp()), count))


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


def by_brute_force(line, zone, start, minutes):
    """The documented rules, minute by minute: what the clock on the wall shows, and what it has just been put forward over."""
    line = crontab(*(line.split()[field] for field in (0, 1, 4, 2, 3)))
    elapsed = len(line.hour) == 24

    def matches(wall):
        return (
            wall.minute in line.minute and wall.hour in line.hour and wall.isoweekday() % 7 in line.day_of_week
            and wall.day in line.day_of_month and wall.month in line.month_of_year
        )  # fmt: skip

    fired, moment = [], start
    before = moment.astimezone(zone).replace(tzinfo=None)
    for _ in range(minutes):
        moment += MINUTE
        aware = moment.astimezone(zone)
        wall = aware.replace(tzinfo=None)
        skipped = [before + MINUTE * n for n in range(1, (wall - before) // MINUTE)]
        if (matches(wall) and (elapsed or not aware.fold)) or (not elapsed and any(map(matches, skipped))):
            fired.append(moment)
        before = wall
    return fired


@given(line=OFTEN, zone=ZONES, start=MOMENTS)
@settings(max_examples=25, deadline=None)
def test_due_times_are_those_of_a_minute_by_minute_walk_through_any_week(line, zone, start):
    start, zone = start.replace(second=0, microsecond=0), ZoneInfo(zone)
    minutes = 7 * 24 * 60
    timing, end = Cron.parse(line, zone), start + MINUTE * minutes
    found = takewhile(lambda run: run <= end, due.next_runs(timing, anchor=start.timestamp(), now=start.timestamp()))
    assert list(found) == by_brute_force(line, zone, start, minutes)


@pytest.mark.parametrize(
    ("zone", "night"),
    [
        ("Europe/Berlin", "2026-03-28"), ("Europe/Berlin", "2026-10-24"),
        ("America/New_York", "2026-03-07"), ("America/New_York", "2026-10-31"),
        ("Australia/Lord_Howe", "2026-10-03"), ("Australia/Lord_Howe", "2026-04-04"),  # half an hour
        ("America/Santiago", "2026-09-05"), ("America/Santiago", "2026-04-04"),  # at midnight
        ("America/Havana", "2026-03-07"), ("America/Havana", "2026-10-31"),
        ("Africa/Casablanca", "2026-02-14"), ("Africa/Casablanca", "2026-03-21"),
        ("Pacific/Apia", "2011-12-29"), ("Asia/Tokyo", "2026-03-28"),  # a day that never was; nothing at all
    ],
)  # fmt: skip
@given(line=OFTEN)
@settings(max_examples=10, deadline=None)
def test_due_times_are_those_of_a_minute_by_minute_walk_over_the_nights_of_change(zone, night, line):
    start, zone = datetime.fromisoformat(night).replace(tzinfo=UTC), ZoneInfo(zone)
    minutes = 3 * 24 * 60
    timing, end = Cron.parse(line, zone), start + MINUTE * minutes
    found = takewhile(lambda run: run <= end, due.next_runs(timing, anchor=start.timestamp(), now=start.timestamp()))
    assert list(found) == by_brute_force(line, zone, start, minutes)


@given(line=LINES, zone=ZONES, start=st.datetimes(datetime(1995, 1, 1), datetime(2035, 1, 1), timezones=st.just(UTC)))
@settings(max_examples=15, deadline=None)
def test_the_first_due_time_is_the_first_match_however_many_years_away(line, zone, start):
    start, zone = start.replace(second=0, microsecond=0), ZoneInfo(zone)
    first = next(due.next_runs(Cron.parse(line, zone), anchor=start.timestamp(), now=start.timestamp()))
    minutes = (first - start) // MINUTE
    near = max(start, first - timedelta(days=40))  # a walk over years takes minutes
    assert by_brute_force(line, zone, near, (first - near) // MINUTE) == [first], minutes


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


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("0 9 * * *", "毎日 09:00"),
        ("0 8,20 * * *", "毎日 08:00、20:00"),
        ("0 9 * * 1-5", "月〜金曜日 09:00"),
        ("0 9 * jan,jul sun", "1、7 月の日曜日 09:00"),
        ("* * * * *", "毎分"),
        ("0 * * * *", "毎時 0 分"),
        ("10 */3 1-7 * 1", "毎月 1〜7 日の月曜日 3 時間ごと 10 分"),
        ("*/15 6-20 * * mon-fri", "月〜金曜日 6〜20 時 15 分ごと"),
        ("5,10-20/2 9 1 1 *", "1 月 1 日 9 時 5、10〜20 分 (2 分ごと)"),
        ("0 9 * * */2", "0 9 * * */2"),
    ],
)
def test_a_cron_line_is_told_in_japanese(line, words):
    with override("ja"):
        assert Cron.parse(line, TOKYO).words() == words


def test_an_event_of_the_sun_is_told_in_words():
    dusk = Solar(event="dusk_civil", latitude=35.68, longitude=139.77)
    assert dusk.words() == "At civil dusk, seen from 35.68° / 139.77°"
    with override("ja"):
        assert "市民薄明" in dusk.words()


def test_an_interval_and_a_moment_are_told_in_words():
    assert Every.parse(30, "seconds").words() == "Every 30 seconds"
    assert Every.parse(1, "hours").words() == "Every hour"
    assert Once(at=datetime(2026, 12, 1, 9, tzinfo=TOKYO)).words() == "Once, on 1 December 2026 at 09:00"


def test_nine_in_tokyo_is_midnight_in_utc():
    assert runs(Cron.parse("0 9 * * *", TOKYO), MONDAY + timedelta(minutes=1), 2) == [
        datetime(2026, 11, 24, tzinfo=UTC),
        datetime(2026, 11, 25, tzinfo=UTC),
    ]


def on_the_wall(line, zone, day):
    """What runs on one local day, as the clock shows it."""
    midnight = datetime.fromisoformat(day).replace(tzinfo=zone)
    found = (run.astimezone(zone) for run in runs(Cron.parse(line, zone), midnight - MINUTE, 30))
    return [f"{run:%H:%M %Z}" for run in found if run.date() == midnight.date()]


def test_a_skipped_time_runs_once_at_the_next_that_exists_and_an_hourly_job_misses_no_hour_that_happens():
    assert on_the_wall("30 2 * * *", BERLIN, "2026-03-29") == ["03:00 CEST"]
    assert on_the_wall("*/10 2 * * *", BERLIN, "2026-03-29") == ["03:00 CEST"]
    assert on_the_wall("0,30 2,3 * * *", BERLIN, "2026-03-29") == ["03:00 CEST", "03:30 CEST"]
    assert len(on_the_wall("30 * * * *", BERLIN, "2026-03-29")) == 23


def test_a_doubled_hour_runs_hourly_jobs_twice_and_daily_jobs_once():
    assert on_the_wall("30 2 * * *", BERLIN, "2026-10-25") == ["02:30 CEST"]
    assert [run for run in on_the_wall("30 * * * *", BERLIN, "2026-10-25") if "02:" in run] == [
        "02:30 CEST",
        "02:30 CET",
    ]
    assert len(on_the_wall("30 * * * *", BERLIN, "2026-10-25")) == 25


def test_the_sun_rises_each_day_except_in_the_polar_night():
    tokyo = runs(Solar(event="sunrise", latitude=35.68, longitude=139.77), MONDAY, 3)
    assert [f"{run.astimezone(TOKYO):%d %H:%M}" for run in tokyo] == ["24 06:25", "25 06:26", "26 06:27"]
    tromso = runs(Solar(event="sunrise", latitude=69.65, longitude=18.96), datetime(2026, 11, 20, tzinfo=UTC), 12)
    gaps = [(later - first).days for first, later in pairwise(tromso)]
    assert max(gaps) > 40


def test_an_overdue_schedule_runs_now_and_then_goes_on():
    last = MONDAY - timedelta(days=3) - timedelta(minutes=20)
    found = islice(due.next_runs(Every.parse(1, "hours"), anchor=last.timestamp(), now=MONDAY.timestamp()), 2)
    assert list(found) == [MONDAY, MONDAY + timedelta(minutes=40)]


def test_of_a_long_outage_the_newest_due_times_are_kept_and_all_are_counted():
    last, now = (MONDAY - timedelta(days=60)).timestamp(), MONDAY.timestamp()
    assert due.between(Every.parse(1, "seconds"), last, now, limit=2) == ([now - 1, now], 60 * 86400)
    assert due.between(Cron.parse("0 * * * *", TOKYO), last, now, limit=2) == ([now - 3600, now], 60 * 24)
    assert due.between(Every.parse(1, "hours"), now - 10, now, limit=2) == ([], 0)


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
    every, cron = Every.parse(10, "minutes"), Cron.parse("0 9 * * *", ZoneInfo("UTC"))
    for timing in (every, cron):
        anchor = due.anchor(timing, last=None, changed=MONDAY.timestamp(), start=start.timestamp())
        assert next(due.next_runs(timing, anchor=anchor, now=MONDAY.timestamp())) == start
    assert due.anchor(every, last=None, changed=start.timestamp(), start=MONDAY.timestamp()) == start.timestamp()


def test_an_outage_of_years_is_looked_through_in_a_moment():
    now = MONDAY.timestamp()
    found, count = due.between(Cron.parse("* * * * *", TOKYO), now - 3 * 365 * 86400, now, limit=3)
    assert found == [now - 120, now - 60, now]
    assert count >= 4000
    found, _count = due.between(Cron.parse("* * 1 1 *", TOKYO), now - 3 * 365 * 86400, now, limit=3)
    assert found[-1] < now
