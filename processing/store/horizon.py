"""How far the transactions of the tables reach, whatever a few wrong clocks say."""

from collections.abc import Mapping
from datetime import datetime

FEW_ROWS, FEW_IN = 100, 1_000  # up to so many rows, or one in so many, may have a wrong clock
DAY_HOURS = 24


def settled_up_to(rows: Mapping[int, int], lookback: int, now: int) -> int:
    """The newest hour (or day), not after `now`, from which on there are more than a few rows.

    `rows` counts the rows of each hour. How many are a few depends on the rows in the newest `lookback` hours. This
    way a few rows with a wrong clock do not move the horizon.
    """
    recent = sum(count for hour, count in rows.items() if hour >= max(rows) - lookback)
    few, later = max(FEW_ROWS, recent // FEW_IN), 0
    for hour in sorted(rows, reverse=True):
        later += rows[hour]
        if later > few:
            return min(hour, now)
    return min(*rows, now)


def first_day(rows: Mapping[int, int], lookback_hours: int, now: datetime) -> int:
    """The first day whose transactions a refresh needs. `rows` counts the rows of each day."""
    days = -(-lookback_hours // DAY_HOURS)
    return settled_up_to(rows, days, int(now.timestamp()) // 86_400) - days - 1
