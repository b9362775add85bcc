"""The horizon: a few rows with a wrong clock do not move it."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from processing.contracts.reader import load
from processing.store.horizon import FEW_IN, FEW_ROWS, first_day, settled_up_to

CONTRACT = load("transactions")
LOOKBACK = CONTRACT.lookback_hours
counts = st.dictionaries(st.integers(0, 3_000), st.integers(1, 40_000), min_size=1, max_size=60)


@given(counts, st.integers(0, 4_000), st.integers(0, 200), st.integers(0, FEW_ROWS))
def test_a_few_rows_in_the_future_do_not_move_the_horizon(rows: dict[int, int], now: int, ahead: int, few: int) -> None:
    newest = max(rows)
    assert settled_up_to(rows, LOOKBACK, now) <= min(newest, now)
    more = rows | {newest + ahead + 1: few} if few else rows
    assert settled_up_to(more, LOOKBACK, now) <= min(newest, now)


@given(counts, st.integers(0, 200))
def test_many_rows_in_the_future_do_not_move_it_before_their_time(rows: dict[int, int], ahead: int) -> None:
    newest = max(rows)
    assert settled_up_to(rows | {newest + ahead + 1: 10**9}, LOOKBACK, newest) <= newest


@given(counts)
def test_few_rows_are_after_the_horizon(rows: dict[int, int]) -> None:
    """Apart from those in the horizon's own hour and those in the future."""
    horizon = settled_up_to(rows, LOOKBACK, now=10_000)
    later = sum(count for hour, count in rows.items() if hour > horizon)
    recent = sum(count for hour, count in rows.items() if hour >= max(rows) - LOOKBACK)
    assert later <= max(FEW_ROWS, recent // FEW_IN)


@given(counts, st.integers(0, 4_000))
def test_a_refresh_reads_every_day_that_it_needs(rows: dict[int, int], now: int) -> None:
    by_day: dict[int, int] = {}
    for hour, count in rows.items():
        by_day[hour // 24] = by_day.get(hour // 24, 0) + count
    first = first_day(by_day, LOOKBACK, datetime.fromtimestamp(now * 3600, UTC))
    assert first * 24 <= settled_up_to(rows, LOOKBACK, now) - LOOKBACK
    read = {hour: count for hour, count in rows.items() if hour >= first * 24}
    assert settled_up_to(read, LOOKBACK, now) == settled_up_to(rows, LOOKBACK, now)
