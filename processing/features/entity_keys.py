"""The keys of a contract's entities, made from the columns that identify them: the one place that does.

Intake makes them for the columns of a file, the API for one request.
"""

from collections.abc import Mapping
from typing import TypeVar

from processing.contract import Contract

Column = TypeVar("Column")  # one value per transaction: text, or an Arrow array of texts


def key_columns(contract: Contract, columns: Mapping[str, Column]) -> dict[str, Column]:
    """The key of each entity by the entity's name, in the contract's order. `columns` has `contract.entity_columns`."""
    keys: dict[str, Column] = {}
    for entity in contract.entities:
        (only,) = entity.columns
        keys[entity.name] = columns[only]
    return keys
