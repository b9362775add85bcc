"""Homes with tables, for tests: days of transactions and features, committed as a run does, without Spark."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from processing.contract import Contract
from processing.contracts.reader import load
from processing.storage.local import LocalHome
from processing.storage.open import open_home
from processing.tables.schemas import features_schema, transaction_schema
from processing.tables.tables import Tables, open_tables

CONTRACT = load("transactions")
FIRST = 20_000  # a day


def at(folder: Path) -> LocalHome:
    home = open_home(folder)
    assert isinstance(home, LocalHome)
    return home


def written(
    home: LocalHome, tables: Tables, name: str, run: str, days: dict[int, list[str]], contract: Contract = CONTRACT
) -> dict[int, list[str]]:
    """Write files as a run does, with the given ids for each day; returns the files of each day."""
    schema = {"transactions": transaction_schema, "features": features_schema}[name](contract)
    files = {}
    for day, ids in days.items():
        when = datetime.fromtimestamp(day * 86_400 + 3600, UTC)
        rows: list[dict[str, Any]] = [
            {
                "transaction_id": i,
                "event_time": when,
                "amount_minor": 5,
                "is_fraud": 0,
                "customer": "C",
                "terminal": "T",
                **dict.fromkeys(contract.numeric, 7.0),
                **({column: known[0] for column, known in contract.categorical.items()} if name != "features" else {}),
            }
            for i in ids
        ]
        key = f"{tables.folder(name)}/data/{run}/day={day}/part-0.parquet"
        home.path(key).parent.mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(rows, schema), home.path(key))
        files[day] = [key]
    return files


def put(home: LocalHome, run: str, ids: list[str], day: int = FIRST, contract: Contract = CONTRACT) -> None:
    """Commit a day's transactions, as a run does."""
    tables = open_tables(home, contract)
    files = written(home, tables, "transactions", run, {day: ids}, contract)
    tables.replace_days("transactions", files, [key for keys in files.values() for key in keys])


def ids(home: LocalHome, name: str = "transactions") -> list[str]:
    return sorted(getattr(open_tables(home, CONTRACT), name).scan().to_arrow()["transaction_id"].to_pylist())


def begin(folder: Path) -> LocalHome:
    home = at(folder)
    put(home, "one", ["a"])
    return home
