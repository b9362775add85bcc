"""Homes with synthetic transactions in their table, as a run commits them, but without Spark and without features."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.data.transactions import read_transactions
from pipeline.registry.registry import Registry
from processing.contract import Contract
from processing.contracts.home_contract import adopt
from processing.contracts.reader import of_home
from processing.durations import DAY_US
from processing.features.table_features import time_us
from processing.storage.local import LocalHome
from processing.storage.open import open_home
from processing.synthetic.synthesize import write
from processing.tables.schemas import transaction_schema
from processing.tables.tables import open_tables


def home_with(folder: Path, raw: pa.Table, contract: Contract) -> LocalHome:
    """A new home with these rows of `synthesize`."""
    home = open_home(folder / "home")
    assert isinstance(home, LocalHome)
    adopt(home, contract)
    write(raw, folder / "raw.parquet")
    add(home, read_transactions(folder / "raw.parquet", contract), contract)
    return home


def add(home: LocalHome, rows: pa.Table, contract: Contract, run: str = "one") -> None:
    """Commit transactions, of days that the home does not have yet."""
    tables, schema = open_tables(home, contract), transaction_schema(contract)
    day = time_us(rows) // DAY_US
    keys = {number: f"{tables.folder('transactions')}/data/{run}/day={number}/part-0.parquet" for number in set(day)}
    for number, key in keys.items():
        home.path(key).parent.mkdir(parents=True)
        pq.write_table(rows.select(schema.names).filter(pa.array(day == number)).cast(schema), home.path(key))
    tables.replace_days("transactions", keys, list(keys.values()))


def with_champion(home: LocalHome, files: Mapping[str, bytes] | None = None, **manifest: Any) -> LocalHome:
    """The home with a serving version of these files and manifest entries, but no model that could score."""
    contract, registry = of_home(home), Registry(home)
    document = {"contract": {"name": contract.name, "digest": contract.digest, "text": contract.text}, **manifest}
    metrics = {"gate": {"passed": True, "reason": "good enough"}}
    version = registry.publish({"model.joblib": b"no model", **(files or {})}, document, metrics, datetime.now(UTC))
    registry.promote(version, by="a test", reason="to be compared")
    return home
