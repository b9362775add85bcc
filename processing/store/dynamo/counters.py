"""Counters in DynamoDB: reading those that count, and an event's state from them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from processing.features.entity_keys import EntityKeys
from processing.features.windows import DAY_US, HOUR_US, Windows, state_at
from processing.store.decisions import Event
from processing.store.dynamo.attributes import integer
from processing.store.dynamo.facts import Facts
from processing.store.dynamo.layout import DAY_HOURS, SLOT_US, Item, address, day_key, slot_key


def keys_needed(windows: Sequence[Windows], entity_keys: EntityKeys, event: Event, era: int) -> list[Item]:
    """The keys of all counters that an event's state needs. `windows` are those of the entities, in their order."""
    keys: list[Item] = []
    for entity, key in enumerate(entity_keys.of(event.keys)):
        keys += [day_key(entity, key, day, era) for day in _days(windows[entity], event)]
        keys += [slot_key(entity, key, begin, era) for begin in _slots(event)]
    return keys


def state_of(
    windows: Sequence[Windows],
    entity_keys: EntityKeys,
    event: Event,
    items: Mapping[tuple[str, str], Item],
    facts: Facts,
) -> list[int]:
    """An event's state, from the items of `keys_needed` by their addresses."""
    state: list[int] = []
    for entity, key in enumerate(entity_keys.of(event.keys)):
        state += _entity_state(windows[entity], entity, key, event, items, facts)
    return state


def _entity_state(
    windows: Windows, entity: int, key: str, event: Event, items: Mapping[tuple[str, str], Item], facts: Facts
) -> list[int]:
    rows = [
        row
        for day in _days(windows, event)
        if (item := items.get(address(day_key(entity, key, day, facts.era))))
        for row in hours_of(day, item, facts)
        if event.hour - windows.lookback_hours <= row[0] < event.hour
    ]
    slots = [items.get(address(slot_key(entity, key, begin, facts.era)), {}) for begin in _slots(event)]
    earlier = _earlier(slots, event) if event.hour >= facts.done_horizon else (0, 0, 0)
    return state_at(windows, event.hour, event.amount, np.array(rows, np.int64).reshape(-1, 6), earlier)


def _days(windows: Windows, event: Event) -> range:
    """The days that contain the hours an event's windows need."""
    first = event.hour - windows.lookback_hours
    return range(first // DAY_HOURS, (event.hour - 1) // DAY_HOURS + 1)


def _slots(event: Event) -> list[int]:
    """The times at which the slots of an event's hour begin, up to the event."""
    return list(range(event.hour * HOUR_US, event.time_us, SLOT_US))


def hours_of(day: int, item: Mapping[str, Any], facts: Facts) -> Iterator[list[int]]:
    """The rows [hour, n, s, q, f, g] of a day's item that count, oldest first.

    Hours before the horizon count only if the refresh completed last, or a later one, has set them.
    """
    stale = integer(item, "refresh") < facts.done
    for within in range(DAY_HOURS):
        hour = day * DAY_HOURS + within
        if f"n{within}" in item and not (stale and hour < facts.done_horizon):
            yield [hour, *(integer(item, f"{name}{within}") for name in "nsqfg")]


def _earlier(slots: Iterable[Mapping[str, Any]], event: Event) -> tuple[int, int, int]:
    """Count, amount and squared amounts of the transactions in the event's hour before it."""
    day_us, sums = event.time_us // DAY_US * DAY_US, [0, 0, 0]
    low, high = event.hour * HOUR_US - day_us, event.time_us - day_us
    for item in slots:
        for name in item:
            if name[0] in "nsq" and name[1:].isdigit() and low <= int(name[1:]) < high:
                sums["nsq".index(name[0])] += integer(item, name)
    return sums[0], sums[1], sums[2]


def is_counted(item: Mapping[str, Any], facts: Facts, in_data: bool) -> bool:
    """Whether a decided event is counted, as of the refresh completed last.

    `in_data` says whether it is among the frauds of the tables.
    """
    if "displaced" in item:
        return False
    if integer(item, "time_us") // HOUR_US >= facts.done_horizon:
        return integer(item, "era") == facts.era
    labelled = "counted" in item and integer(item, "basis", -1) == facts.done
    return in_data or labelled or integer(item, "recorded") <= facts.read


def counted_as_fraud(item: Mapping[str, Any], facts: Facts, in_data: bool) -> bool:
    """Whether the counters hold a counted event as fraud.

    A refresh sets what the tables say (`in_data`); after that, and after the horizon, reports count.
    """
    since = integer(item, "basis", -1) == facts.done or integer(item, "time_us") // HOUR_US >= facts.done_horizon
    counted: bool = item["counted"]["BOOL"] if since and "counted" in item else in_data
    return counted
