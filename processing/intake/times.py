"""Parsing a raw column of times, in the contract's format, whatever type the file has given it."""

import math
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from processing.contract import Contract
from processing.features.local_time import clock_of
from processing.intake.columns import Mask, as_mask, as_number, as_text, parse_each
from processing.tables.schemas import TIME

# How far from 1970 a time in some unit still fits into microseconds.
FARTHEST = {
    "s": 2**63 // 10**6 - 1,
    "ms": 2**63 // 10**3 - 1,
    "date32[day]": 106_751_990,
    "date64[ms]": 2**63 // 10**3 - 1,
}
ZONE = r"(Z|z|[+-]\d\d(:?\d\d)?)$"


class Times(NamedTuple):
    """UTC times in microseconds, null where there is none or it cannot be read, and masks, [n] each.

    unreadable: what is not a time
    skipped: those of the unreadable ones that no clock of the contract's zone ever showed
    """

    values: pa.Array
    unreadable: Mask
    skipped: Mask


def expected_time(contract: Contract) -> str:
    """What a time should look like, for a message."""
    seconds = f"expected seconds since {contract.time_origin:%Y-%m-%d}"
    return "expected an ISO-8601 time" if contract.time_format == "iso" else seconds


def as_time(raw: pa.Array, contract: Contract) -> Times:
    """A column of times in the contract's format. One without an offset is in the contract's zone."""
    if contract.time_format != "iso" and not pa.types.is_temporal(raw.type):
        return _seconds(raw, contract)
    times, bad, local = _temporal(raw) if pa.types.is_temporal(raw.type) else _iso(raw)
    if contract.time_format != "iso" or contract.time_zone is None or not local.any():
        return Times(times, bad, np.zeros(len(raw), bool))
    known = as_mask(pc.is_valid(times))
    shown = np.asarray(times.cast(pa.int64()).fill_null(0))
    time_us, skipped = clock_of(contract.time_zone).utc(shown)
    skipped &= local & known
    values = pa.array(np.where(local, time_us, shown), mask=skipped | ~known).cast(TIME)
    return Times(values, bad | skipped, skipped)


def _seconds(raw: pa.Array, contract: Contract) -> Times:
    seconds, bad = as_number(raw)
    values = seconds.to_numpy(False)
    far = np.abs(values) > 1e11
    start = math.floor(contract.time_origin.timestamp()) * 1_000_000 if contract.time_format == "elapsed" else 0
    micros = np.rint(np.where(far | np.isnan(values), 0.0, values) * 1e6).astype(np.int64) + start
    times = pa.array(micros, mask=np.isnan(values) | far).cast(TIME)
    return Times(times, bad | far, np.zeros(len(raw), bool))


def _iso(raw: pa.Array) -> tuple[pa.Array, Mask, Mask]:
    """Texts as if those without an offset were in UTC, the unreadable ones, and those without an offset."""
    text, bad = as_text(raw)
    zoned = pc.match_substring_regex(text, ZONE)
    try:
        times = pc.if_else(zoned, text, pc.binary_join_element_wise(text, "Z", "")).cast(TIME)
        return times, bad, ~as_mask(zoned)
    except pa.ArrowInvalid:
        times, unparsed = parse_each(text, _moment, TIME)
        local, _ = parse_each(text, _is_local, pa.bool_())
        return times, bad | unparsed, as_mask(local)


def _temporal(raw: pa.Array) -> tuple[pa.Array, Mask, Mask]:
    """The same for dates and timestamps. Unreadable: what 64 bits of microseconds from 1970 cannot hold."""
    zoned = pa.types.is_timestamp(raw.type) and raw.type.tz
    unit = raw.type.unit if pa.types.is_timestamp(raw.type) else str(raw.type)
    counts = raw.cast(pa.int32()) if pa.types.is_date32(raw.type) else raw.cast(pa.int64())
    far = as_mask(pc.greater(pc.abs(counts.cast(pa.int64())), FARTHEST.get(unit, 2**63 - 1)))
    near = pc.if_else(pa.array(far), pa.scalar(None, raw.type), raw)
    if zoned:
        return near.cast(TIME, safe=False), far, np.zeros(len(raw), bool)
    return pc.assume_timezone(near.cast(pa.timestamp("us"), safe=False), "UTC"), far, np.ones(len(raw), bool)


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _is_local(text: str) -> bool:
    return datetime.fromisoformat(text).tzinfo is None
