"""One event as the windows of a contract's entities see it."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

from processing.contract import Contract
from processing.features.aggregated_events import EventValues, Input
from processing.features.contract_windows import fraud_tile
from processing.features.entity_keys import EntityKeys
from processing.features.feature_set import FeatureSet
from processing.features.inputs import encode_value
from processing.features.windows import EntityWindows


class EntityEvent(NamedTuple):
    """An event as one entity sees it."""

    entity: int  # index in the contract
    key: str
    windows: EntityWindows
    values: EventValues

    def fraud_tile(self, known_us: int | None = None) -> int:
        """The five-minute tile in which it counts as known to be fraud."""
        return int(fraud_tile(self.windows, self.values.time_us, known_us))


class StatePlan:
    """The windows of a contract's entities, for one event after another."""

    def __init__(self, contract: Contract) -> None:
        self.contract = contract
        self.entities = [entity.name for entity in contract.entities]
        self.windows = list(FeatureSet(contract).windows.values())
        self.entity_keys = EntityKeys(contract)
        self.event_columns = event_columns(contract)

    @cached_property
    def _inputs(self) -> list[Input]:
        return list(dict.fromkeys(each for windows in self.windows for each in windows.inputs))

    def of(self, time_us: int, amount: int, keys: Sequence[str], extras: Mapping[str, Any]) -> list[EntityEvent]:
        """An event as each entity sees it, in the order of the contract.

        `keys` are the values of `contract.key_columns`, `extras` those of `event_columns`.
        """
        values = EventValues(time_us, amount, self._encoded(keys, extras))
        by_entity = zip(self.windows, self.entity_keys.of(keys), strict=True)
        return [EntityEvent(index, key, windows, values) for index, (windows, key) in enumerate(by_entity)]

    def _encoded(self, keys: Sequence[str], extras: Mapping[str, Any]) -> dict[Input, int]:
        if not self._inputs:
            return {}
        named = dict(zip(self.contract.key_columns, keys, strict=True)) | dict(extras)
        return {each: encode_value(self.contract, each, named.get(each.column)) for each in self._inputs}


def event_columns(contract: Contract) -> tuple[str, ...]:
    """The numeric and categorical columns that aggregates read."""
    used = {column for entity in contract.entities for entry in entity.aggregates for column in entry.columns}
    return tuple(name for name in (*contract.numeric, *contract.categorical) if name in used)
