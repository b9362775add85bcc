"""Lengths of time as a contract writes them: 10m, 6h, 7d."""

from typing import NamedTuple

from processing.errors import BadInput

SECOND_US = 1_000_000
MINUTE_US = 60 * SECOND_US
FIVE_MINUTES_US = 5 * MINUTE_US
HOUR_US = 60 * MINUTE_US
DAY_US = 24 * HOUR_US
UNITS = {"m": MINUTE_US, "h": HOUR_US, "d": DAY_US}
LONGEST_US = 366 * DAY_US
FINE_UP_TO_US, HOURLY_UP_TO_US = 12 * HOUR_US, 12 * DAY_US


class Duration(NamedTuple):
    """A length of time in microseconds, and its text."""

    us: int
    text: str


def parse_duration(text: object) -> Duration:
    """The duration that a text such as "10m", "6h" or "7d" stands for. Raises BadInput.

    Up to 12 hours it is a multiple of five minutes, up to 12 days one of an hour, beyond that one of a day, because
    these are the tiles that a window of that length consists of.
    """
    if not isinstance(text, str) or text[-1:] not in UNITS or not (text[:-1].isascii() and text[:-1].isdecimal()):
        raise BadInput(f"{text!r} is no length of time; write minutes, hours or days, e.g. '10m', '6h' or '7d'")
    us = int(text[:-1]) * UNITS[text[-1]]
    if not 0 < us <= LONGEST_US:
        raise BadInput(f"{text!r} is not between '5m' and '366d'")
    if us % tile_of(us):
        multiple = {FIVE_MINUTES_US: "5 minutes", HOUR_US: "an hour", DAY_US: "a day"}[tile_of(us)]
        raise BadInput(f"{text!r} is not a multiple of {multiple}, the tile of a window of that length")
    return Duration(us, f"{int(text[:-1])}{text[-1]}")


def tile_of(us: int) -> int:
    """The tile size, in microseconds, of a window of that length."""
    if us <= FINE_UP_TO_US:
        return FIVE_MINUTES_US
    return HOUR_US if us <= HOURLY_UP_TO_US else DAY_US
