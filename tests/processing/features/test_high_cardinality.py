"""A column of thousands of values, such as a merchant category, is followed as an entity: no list in the contract."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from processing.contracts.reader import load, parse
from processing.durations import DAY_US, MINUTE_US
from processing.features.feature_set import FeatureSet
from processing.features.table_features import compute_rows, window_states
from processing.intake.files import read_file
from processing.tables.schemas import transaction_schema

CONTRACT = parse(
    load("transactions").text
    + """
[[entity]]
name = "mcc"
column = "mcc"
windows = ["10m", "30d"]
fraud_windows = ["30d"]
busy = true

[[entity]]
name = "habit"
columns = ["customer_id", "mcc"]
windows = ["30d"]
aggregates = ["count"]

[[feature]]
name = "share_of_mcc"
is = "habit.count_30d / customer.count_30d"
says = "{value:.0%} of this customer's payments are of this kind"
"""
)
START = 20_454 * DAY_US
FILE = """transaction_id,event_time,amount,customer_id,terminal_id,mcc,channel
1,2025-01-01T00:00:00Z,5,c,t,5411,chip
2,2025-01-01T00:00:00Z,5,c,t,,chip
3,2025-01-01T00:00:00Z,5,c,t,none,chip
"""


def payments(n: int) -> Iterator[dict[str, object]]:
    """Payments ten minutes apart, of hundreds of kinds, most of them rare."""
    random = np.random.default_rng(3)
    for i, kind in enumerate(random.zipf(1.4, n)):
        yield {
            "transaction_id": str(i),
            "event_time": START + 10 * i * MINUTE_US,
            "amount_minor": 1000 + i,
            "is_fraud": int(random.random() < 0.2),
            "customer": f"c{i % 3}",
            "terminal": "t",
            "mcc": str(kind),
            "channel": "chip",
        }


def test_counts_shares_and_delayed_fraud_rates_are_those_of_the_value() -> None:
    rows = list(payments(2500))
    assert len({row["mcc"] for row in rows}) > 300
    schema = transaction_schema(CONTRACT)
    plain = pa.schema([field.with_type(pa.int64()) if field.name == "event_time" else field for field in schema])
    table, features = pa.Table.from_pylist(rows, plain).cast(schema), FeatureSet(CONTRACT)
    values = dict(zip(features.names, compute_rows(features, table, window_states(features, table)).T, strict=True))
    kind, customer = (np.array([row[name] for row in rows]) for name in ("mcc", "customer"))
    fraud = np.array([row["is_fraud"] for row in rows], bool)
    delay = CONTRACT.label_delay_days * 24 * 6  # payments
    for i in range(0, 2500, 7):
        same = kind[: i + 1] == kind[i]
        assert values["mcc_count_30d"][i] == same.sum()
        own = customer[: i + 1] == customer[i]
        assert values["share_of_mcc"][i] == (same & own).sum() / own.sum()
        known = max(0, i - delay)  # the payments before this one that are a label delay old
        judged = max(0, (i // 144 - CONTRACT.label_delay_days) * 144)  # those of whole days
        frauds = (same[:known] & fraud[:known]).sum()
        assert values["mcc_fraud_count_30d"][i] == frauds
        assert values["mcc_fraud_rate_30d"][i] == (frauds / same[:judged].sum() if same[:judged].any() else 0.0)


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_a_row_without_a_value_is_refused_unless_it_says_that_there_is_none(form: str, tmp_path: Path) -> None:
    path = tmp_path / f"rows.{form}"
    path.write_text(FILE)
    if form == "parquet":
        table = pa.csv.read_csv(path, convert_options=pa.csv.ConvertOptions(strings_can_be_null=True))
        pa.parquet.write_table(table, path)
    (batch,) = read_file(path, CONTRACT, path.name, datetime.now(UTC), labelled=False)
    assert batch["reason"].to_pylist() == [None, "mcc: a value is required", None]
    assert batch["mcc"].to_pylist() == ["5411", None, "none"]
