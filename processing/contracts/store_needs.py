"""What the online store must keep of a contract's entities for its features, and whether it does."""

from collections.abc import Iterable
from dataclasses import dataclass

from processing.contract import Contract
from processing.durations import DAY_US, FIVE_MINUTES_US, HOUR_US, MINUTE_US, SECOND_US

TILES = {
    SECOND_US: "a second",
    MINUTE_US: "a minute",
    FIVE_MINUTES_US: "5 minutes",
    HOUR_US: "an hour",
    DAY_US: "a day",
}


@dataclass(frozen=True)
class StoreNeeds:
    """What the online store must keep of one entity.

    columns: of the tiles, by name
    reach: sizes of tiles and how far back each is read, in microseconds
    frauds_us: how far back frauds are read, in microseconds; 0 if they are not
    """

    identified_by: tuple[str, ...]
    columns: frozenset[str]
    reach: tuple[tuple[int, int], ...]
    frauds_us: int


def store_needs(contract: Contract) -> dict[str, StoreNeeds]:
    """What the online store must keep for a contract, by the name of the entity."""
    from processing.features.feature_set import FeatureSet  # imports NumPy, which `fraudline --help` does without

    needs = {}
    for entity, windows in zip(contract.entities, FeatureSet(contract).windows.values(), strict=True):
        reach = [(size, tiles * size) for size, tiles in zip(windows.levels, windows.reach, strict=True)]
        columns = frozenset(column.name for column in windows.tile_columns)
        needs[entity.name] = StoreNeeds(entity.columns, columns, tuple(reach), windows.fraud_reach_us)
    return needs


def lacking(contract: Contract, kept_for: Iterable[Contract]) -> str:
    """What an online store that is set for some contracts does not keep for another one, in words; "" if nothing."""
    kept = [store_needs(each) for each in kept_for]
    for name, needs in store_needs(contract).items():
        own = [each[name] for each in kept if name in each and each[name].identified_by == needs.identified_by]
        if not own:
            return f"needs the entity {name!r}, of which the online store keeps nothing"
        if missing := sorted(needs.columns.difference(*(each.columns for each in own))):
            return f"needs {missing[0]!r} of {name!r}, which the online store does not keep"
        for size, reach_us in needs.reach:
            if reach_us > (most := max(dict(each.reach).get(size, 0) for each in own)):
                return _too_short(f"history in tiles of {TILES[size]}", reach_us, most)
        if needs.frauds_us > (most := max(each.frauds_us for each in own)):
            return _too_short("frauds", needs.frauds_us, most)
    return ""


def _too_short(what: str, needed_us: int, kept_us: int) -> str:
    needed, kept = (-(-reach // DAY_US) for reach in (needed_us, kept_us))
    return f"needs {needed} days of {what}, and the online store keeps {kept}"
