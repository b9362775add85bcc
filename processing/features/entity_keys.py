"""The keys of a contract's entities, made from the columns that identify them: the one place that does.

Tables, events and requests hold each key column once, however many entities use it. The key of an entity is the value
of its column; that of an entity of several columns is a JSON list of their values, so that ("a", "b,c") and
("a,b", "c") are two entities.
"""

import json
from collections.abc import Mapping, Sequence
from typing import TypeVar

from processing.contract import Contract

Column = TypeVar("Column")  # one value per transaction: text, or an Arrow array of texts


def named_keys(contract: Contract, columns: Mapping[str, Column]) -> dict[str, Column]:
    """The columns `contract.key_columns` of a dataset, under their names in tables: `contract.key_names`."""
    return {name: columns[column] for name, column in zip(contract.key_names, contract.key_columns, strict=True)}


class EntityKeys:
    """The key of an event under each entity of a contract."""

    def __init__(self, contract: Contract) -> None:
        columns = contract.key_columns
        self._positions = [[columns.index(column) for column in entity.columns] for entity in contract.entities]

    def of(self, values: Sequence[str]) -> tuple[str, ...]:
        """The entities' keys, in the order of the contract. `values` are those of `contract.key_columns`."""
        return tuple(entity_key([values[position] for position in own]) for own in self._positions)


def entity_key(values: Sequence[str]) -> str:
    """The key of one entity from the values of its columns; different for different values."""
    return values[0] if len(values) == 1 else json.dumps(values, ensure_ascii=False, separators=(",", ":"))
