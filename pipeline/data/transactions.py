"""A file of raw transactions as a dataset, computed in this process without Spark, with the Spark job's kernel.

For benchmarks and the search, which look at many days at once and store nothing. A run uses `processing.job.job`,
whose features are the same, bit for bit.
"""

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.data import dataset
from pipeline.data.dataset import Dataset
from processing.contract import Contract
from processing.errors import BadInput
from processing.features.feature_set import FeatureSet
from processing.features.table_features import compute_rows, feature_table, window_states
from processing.intake.file_names import is_readable
from processing.intake.files import UNREADABLE, check_file, read_file
from processing.tables.schemas import features_schema, intake_schema


def read_transactions(path: Path, contract: Contract) -> pa.Table:
    """The accepted rows of a file, in `intake_schema`. Raises BadInput, also if too many rows are refused."""
    if not path.is_file():
        raise BadInput(f"{path} does not exist")
    if not is_readable(path.name):
        raise BadInput(f"{path}: only .csv, .csv.gz and .parquet files can be read")
    check_file(path, contract, str(path), remedy="Rename the file's columns")
    table = pa.Table.from_batches(read_file(path, contract, path.name, datetime.now(UTC)), intake_schema(contract))
    refused = table.filter(pc.is_valid(table["reason"]))
    unreadable = refused.filter(pc.starts_with(refused["reason"], UNREADABLE)).to_pylist()
    if unreadable:
        line, reason = unreadable[0]["line"], unreadable[0]["reason"]
        raise BadInput(f"{path} is truncated or damaged at line {line} ({reason})")
    if len(refused) > contract.refuse_above * len(table):
        first = refused.slice(0, 1).to_pylist()[0]
        raise BadInput(
            f"{path}: {len(refused)} of {len(table)} rows are refused, more than the contract allows; first line "
            f"{first['line']}: {first['reason']}"
        )
    return table.filter(pc.is_null(table["reason"]))


def as_dataset(transactions: pa.Table, contract: Contract, source: str) -> Dataset:
    """The transactions with the features that a run would compute from the same rows.

    `transactions` has the columns of `transaction_schema`. Errors name them by `source`. Raises BadInput.
    """
    return dataset.of_table(_with_features(transactions, contract), contract, source)


def _with_features(transactions: pa.Table, contract: Contract) -> pa.Table:
    features = FeatureSet(contract)
    values = compute_rows(features, transactions, window_states(features, transactions))
    return feature_table(features, transactions, values, features_schema(contract))
