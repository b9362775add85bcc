"""An example of the transactions that a contract accepts."""

from datetime import UTC, datetime
from typing import Any

from processing.contract import Contract


def example_transaction(contract: Contract) -> dict[str, Any]:
    """A transaction that the contract accepts, by column name. It has no label."""
    noon = datetime(2025, 3, 3, 12, tzinfo=UTC)
    times = {"iso": noon.isoformat(), "unix": noon.timestamp(), "elapsed": 3600.0}
    row: dict[str, Any] = {contract.id: "T1000001"} if contract.id else {}
    row[contract.time] = times[contract.time_format]
    row[contract.amount] = min(59.90, contract.amount_maximum)
    keys = zip(contract.key_columns, contract.key_names, strict=True)
    row |= {column: f"{name[:1].upper()}{1042 + i}" for i, (column, name) in enumerate(keys)}
    row |= dict.fromkeys(contract.numeric, 0.5)
    return row | {name: known[0] for name, known in contract.categorical.items()}
