"""Made-up train and test sets, as the feature job writes them for a run."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.estimators.own_code import NO_CODE, OwnCode
from processing.contract import Contract
from processing.contracts.reader import parse
from processing.features.feature_set import FeatureSet

CONTRACT = parse(
    """
name = "made-up"
[columns]
time = "t"
amount = "a"
label = "f"
[label]
delay_days = 2
[[entity]]
name = "customer"
column = "c"
windows_days = [1, 7]
[split]
train_days = 20
test_days = 4
[costs]
needless_alert = 2.0
alerts_per_day = 5
"""
)
FIRST_DAY = 20_000
STRONG = "customer_amount_zscore_7d"


def rows_table(
    contract: Contract = CONTRACT, days: int = 20, per_day: int = 60, first_day: int = FIRST_DAY, seed: int = 0
) -> Any:
    """Rows in the order of their times; fraud is what a high amount and a high STRONG make likely."""
    random = np.random.default_rng(seed)
    n = days * per_day
    time_us = np.sort(random.integers(0, days * 86_400_000_000, n)) + first_day * 86_400_000_000
    minor = random.integers(100, 20_000, n)
    names = FeatureSet(contract).names
    features = {name: random.normal(size=n) for name in names}
    features["amount"] = minor / contract.minor_units
    risk = features["amount"] / 40 + features[STRONG] - 5.5
    fraud = random.random(n) < 1 / (1 + np.exp(-3 * risk))
    features[STRONG][random.random(n) < 0.05] = np.nan
    return pa.table(
        {
            "transaction_id": [f"t{seed}-{i}" for i in range(n)],
            "event_time": pa.array(time_us, pa.timestamp("us", "UTC")),
            "amount_minor": pa.array(minor, pa.int64()),
            "is_fraud": pa.array(fraud.astype(np.int8), pa.int8()),
            **{e.name: [f"c{code}" for code in random.integers(0, 30, n)] for e in contract.entities},
            **{name: pa.array(values, pa.float64()) for name, values in features.items()},
        }
    )


def write_set(folder: Path, table: Any) -> Path:
    """The table as the one file of a set."""
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, folder / "part-0.parquet")
    return folder


def write_contract(folder: Path, contract: Contract = CONTRACT) -> None:
    """The contract as a step is handed it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "contract.toml").write_text(contract.text)


def write_code(folder: Path, code: OwnCode = NO_CODE) -> None:
    """The modules that a run brings along, as a step is handed them."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "code.zip").write_bytes(code.to_bytes())


def date(day: int) -> str:
    """A day number as a date."""
    return datetime.fromtimestamp(day * 86_400, UTC).date().isoformat()
