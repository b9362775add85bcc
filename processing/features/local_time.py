"""Local time: the clock of a time zone, as integers, so that columns and single numbers get the same hours.

The rules are those that come with python-dateutil, whose version is pinned for every program, never the machine's own:
the feature job and the API must read the same clock, and a small container has none.
"""

import gzip
import io
import tarfile
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from functools import cache
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from processing.arrays import Ints
from processing.contract import EARLIEST
from processing.durations import SECOND_US
from processing.errors import BadInput

LATEST_YEAR = 2100  # the clock of the last known change goes on after it
EPOCH, WEEK_SECONDS = datetime(1970, 1, 1, tzinfo=UTC), 7 * 24 * 60 * 60


class UtcTimes(NamedTuple):
    """Local times as microseconds since 1970 in UTC, and which of them no clock ever showed, [n] each."""

    time_us: Ints
    skipped: NDArray[np.bool_]


@dataclass(frozen=True)
class Clock:
    """The clock of a time zone. Times are microseconds since 1970.

    changes: the times, in UTC, at which the clock changes, in order
    offsets: what the clock is ahead of UTC before the first change, after the first, ...
    """

    zone: str
    changes: tuple[int, ...]
    offsets: tuple[int, ...]

    def local(self, time_us: Any) -> Any:
        """What the clock shows at a time in UTC. For a number or a column of integers."""
        if isinstance(time_us, int):
            return time_us + self.offsets[bisect_right(self.changes, time_us)]
        return time_us + np.array(self.offsets)[np.searchsorted(self.changes, time_us, side="right")]

    def shown(self, moment: datetime) -> datetime:
        """What the clock shows at a moment, as a time without an offset."""
        time_us = (moment - EPOCH) // timedelta(microseconds=1)
        return moment.replace(tzinfo=None) + timedelta(microseconds=self.local(time_us) - time_us)

    def utc(self, local_us: Ints) -> UtcTimes:
        """The times, in UTC, at which the clock shows local times, [n].

        Where it shows a time twice, because it is set back, the first counts. A time that it skips is moved by as much
        as the clock is.
        """
        offsets, starts = np.array(self.offsets), np.array((np.iinfo(np.int64).min, *self.changes))
        # Before each change, the clock shows times up to these.
        ends = starts[1:] + offsets[:-1]
        period = np.searchsorted(ends, local_us, side="right")
        time_us = local_us - offsets[period]
        return UtcTimes(time_us, time_us < starts[period])

    def utc_of(self, moment: datetime) -> int | None:
        """The time of one local time without an offset, as `utc` gives it; None if the clock skips it."""
        local_us = (moment.replace(tzinfo=UTC) - EPOCH) // timedelta(microseconds=1)
        time_us, skipped = self.utc(np.array([local_us]))
        return None if skipped[0] else int(time_us[0])


def skipped_time(zone: str) -> str:
    """What is wrong with a local time that no clock of the zone ever showed, for a message."""
    return f"clocks in {zone} skip this time; expected one that they show, or one with an offset, such as +01:00"


@cache
def clock_of(zone: str) -> Clock:
    """The clock of a time zone, such as Europe/Berlin, from 2000 on. Raises BadInput for one that is not known."""
    rules = _rules()
    if zone not in rules:
        near = get_close_matches(zone, rules, 1)
        hint = f"did you mean {near[0]!r}?" if near else "expected a name such as 'Europe/Berlin'"
        raise BadInput(f"the time zone {zone!r} is not known; {hint}")
    known = ZoneInfo.from_file(io.BytesIO(rules[zone]), zone)
    changes = list(_changes(known))
    offsets = [_offset(known, second) * SECOND_US for second in (_seconds(EARLIEST), *changes)]
    return Clock(zone, tuple(second * SECOND_US for second in changes), tuple(offsets))


@cache
def _rules() -> dict[str, bytes]:
    """The compiled rules of all zones, by name."""
    from dateutil.zoneinfo import getzoneinfofile_stream

    unpacked = io.BytesIO(gzip.decompress(getzoneinfofile_stream().read()))
    with tarfile.open(fileobj=unpacked) as archive:
        files = {name: archive.extractfile(name) for name in archive.getnames()}
        contents = {name: file.read() for name, file in files.items() if file}
    return {name: content for name, content in contents.items() if content.startswith(b"TZif")}


def _changes(zone: ZoneInfo) -> Iterator[int]:
    """The seconds since 1970 at which a zone's clock changes. None changes twice within a week."""
    first, last = _seconds(EARLIEST), _seconds(datetime(LATEST_YEAR, 1, 1, tzinfo=UTC))
    before = _offset(zone, first)
    for week in range(first, last, WEEK_SECONDS):
        if (after := _offset(zone, week + WEEK_SECONDS)) != before:
            low, high = week, week + WEEK_SECONDS  # the offset is still the former at `low`, and the new one at `high`
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if _offset(zone, middle) == before else (low, middle)
            yield high
            before = after


def _offset(zone: ZoneInfo, second: int) -> int:
    """What a zone's clock is ahead of UTC, in seconds, at a time in seconds since 1970."""
    offset = (EPOCH + timedelta(seconds=second)).astimezone(zone).utcoffset()
    assert offset is not None
    return int(offset.total_seconds())


def _seconds(moment: datetime) -> int:
    return int(moment.timestamp())
