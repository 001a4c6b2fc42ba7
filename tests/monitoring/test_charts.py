from hypothesis import given
from hypothesis import strategies as st

from monitoring import charts

counts = st.integers(0, 10**9)


@given(st.floats(0, 1e12))
def test_the_axis_ends_at_or_above_the_highest_bar_and_its_lines_are_whole_numbers(value):
    top = charts.ceiling(value)
    assert top >= value
    assert top % charts.GRID_LINES == 0
    assert top <= max(value * 3, 4)


@given(st.lists(st.tuples(st.just("12:00"), counts, counts), max_size=60))
def test_every_bar_stays_within_the_picture(rows):
    chart = charts.bars(rows)
    assert len(chart.bars) == len(rows)
    for bar in chart.bars:
        assert float(bar.failed_y) >= 0
        assert float(bar.succeeded_y) + float(bar.succeeded_height) <= chart.height
        assert chart.left - 0.1 <= float(bar.x)
        assert float(bar.x) + float(bar.width) <= chart.width + 0.1


def test_one_failure_among_thousands_is_still_seen():
    bar = charts.bars([("12:00", 100_000, 1)]).bars[0]
    assert float(bar.failed_height) >= 2


def test_about_eight_bars_are_labelled():
    assert sum(1 for bar in charts.bars([(str(i), 1, 0) for i in range(48)]).bars if bar.tick) == 8
