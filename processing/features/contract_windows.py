"""The windows of a contract's entities, compiled from the contract's words."""

from typing import Any

from processing.contract import Aggregate as Entry
from processing.contract import Contract, Entity
from processing.durations import DAY_US, FIVE_MINUTES_US, HOUR_US, MINUTE_US, SECOND_US, parse_duration, tile_of
from processing.features.aggregates import Aggregate, Amount, Count, Distinct, Extremes, Last, Recency, Share
from processing.features.fraud_windows import FraudWindow
from processing.features.window_layout import Window
from processing.features.windows import EntityWindows


def entity_windows(contract: Contract, entity: Entity) -> EntityWindows:
    """The windows of an entity, and what is aggregated over them."""
    delay_us = contract.label_delay_days * DAY_US
    aggregates = tuple(_aggregate(contract, entry) for entry in entity.aggregates)
    if entity.whole_days:
        hourly = [(text, parse_duration(text).us, HOUR_US) for text in entity.windows]
        frauds = [FraudWindow(text, parse_duration(text).us, HOUR_US, HOUR_US) for text in entity.fraud_windows]
        levels: tuple[int, ...] = (SECOND_US, HOUR_US)
        return EntityWindows(tuple(Window(*each) for each in hourly), tuple(frauds), delay_us, aggregates, levels)
    windows = [(text, us, tile_of(us)) for us, text in map(parse_duration, entity.windows)]
    spans = [parse_duration(text) for text in entity.fraud_windows]
    size = max((tile_of(span.us) for span in spans), default=HOUR_US)
    judged = max(size, HOUR_US)
    frauds = [FraudWindow(span.text, span.us, judged) for span in spans]
    granule = MINUTE_US if entity.busy else SECOND_US
    coarsest = max([judged, *(tile for _, _, tile in windows)])
    levels = (granule, *(size for size in (FIVE_MINUTES_US, HOUR_US, DAY_US) if size <= coarsest))
    return EntityWindows(tuple(Window(*each) for each in windows), tuple(frauds), delay_us, aggregates, levels)


def _aggregate(contract: Contract, entry: Entry) -> Aggregate:
    match entry.kind:
        case "amount":
            return Amount()
        case "extremes":
            return Extremes()
        case "recency":
            return Recency()
        case "share":
            return Share(entry.columns[0], contract.categorical[entry.columns[0]])
        case "distinct":
            return Distinct(entry.columns[0])
        case "last":
            return Last(entry.columns)
    return Count()


def fraud_tile(windows: EntityWindows, time_us: Any, known_us: Any | None) -> Any:
    """The five-minute tile in which a transaction counts as known to be fraud. Works for numbers and arrays alike.

    known_us: when it became known; None for the label delay after the transaction
    """
    if windows.fraud_windows and windows.fraud_windows[-1].edge_us == HOUR_US:
        # In whole days: known when the hour of the transaction is a delay old.
        return ((time_us + windows.delay_us) // HOUR_US + 1) * (HOUR_US // FIVE_MINUTES_US) - 1
    return (time_us + windows.delay_us if known_us is None else known_us) // FIVE_MINUTES_US
