"""A home's transactions with the features of any contract, computed in this process without Spark.

The kernel is that of the feature job, so the features are the same, bit for bit.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from pipeline.data import dataset
from pipeline.data.dataset import Dataset
from processing.contract import Contract
from processing.contracts.model_contract import not_computable
from processing.contracts.reader import of_home
from processing.durations import DAY_US
from processing.errors import BadInput
from processing.features.feature_set import FeatureSet
from processing.features.table_features import compute_rows, feature_table, time_us, window_states
from processing.split import split_days
from processing.storage.home import Home
from processing.tables.schemas import features_schema
from processing.tables.snapshots import row_counts, snapshot_id
from processing.tables.tables import Tables, open_tables

FEWEST_DAYS = 7  # computed at a time, however short the lookback


@dataclass
class HomeRows:
    """The transactions of a home, under one contract after another."""

    home: Home
    _latest: tuple[object, Dataset] | None = field(default=None, repr=False)

    def days(self, contract: Contract) -> range:
        """The days from the first to the last transaction. Raises BadInput if there are none."""
        days = row_counts(self._tables(contract).transactions)
        return range(min(days), max(days) + 1)

    def features(self, contract: Contract, days: range) -> pa.Table:
        """The transactions of some days, in the order of time and id, as rows of a features table of the contract.

        Besides the result, memory holds the transactions of twice the contract's lookback at most. Raises BadInput if
        the transactions lack what the contract needs.
        """
        parts = list(self._parts(self._tables(contract), contract, days))
        return pa.concat_tables(parts) if parts else features_schema(contract).empty_table()

    def dataset(self, contract: Contract, days: range) -> Dataset:
        """The labelled rows of some days. The latest one is kept, since often only the model is another."""
        key = (FeatureSet(contract).definition, days, self.snapshot(contract))
        if self._latest is None or self._latest[0] != key:
            source = f"the transactions of {self.home.url}"
            self._latest = key, dataset.of_table(self.features(contract, days), contract, source)
        return self._latest[1]

    def snapshot(self, contract: Contract) -> int | None:
        """The snapshot of the transactions that is read."""
        return snapshot_id(self._tables(contract).transactions)

    def test_start(self, contract: Contract) -> int:
        """The first day of the next run's test set, if no file is added. Raises BadInput if there is no such set."""
        transactions = self._tables(contract).transactions
        return split_days(row_counts(transactions, labelled=True), row_counts(transactions), contract).test.start

    def _parts(self, tables: Tables, contract: Contract, days: range) -> Iterator[pa.Table]:
        features, schema = FeatureSet(contract), features_schema(contract)
        reach = -(-contract.lookback_hours // 24)
        step = max(reach, FEWEST_DAYS)
        for start in range(days.start, days.stop, step):
            end = min(start + step, days.stop)
            rows = tables.read("transactions", range(start - reach, end)).combine_chunks()
            wanted = pa.array(time_us(rows) // DAY_US >= start)
            state = window_states(features, rows)[np.asarray(wanted)]
            rows = rows.filter(wanted)
            table = feature_table(features, rows, compute_rows(features, rows, state), schema)
            yield table.sort_by([("event_time", "ascending"), ("transaction_id", "ascending")])

    def _tables(self, contract: Contract) -> Tables:
        """The tables as they are now. Raises BadInput if the contract's features cannot be computed from them."""
        tables = open_tables(self.home, contract)
        if tables.find("transactions") is None:
            raise BadInput(f"the home {self.home.url} has no data yet; `fraudline run` accepts the first files")
        if why := not_computable(contract, of_home(self.home)):
            raise BadInput(f"the transactions of {self.home.url} do not fit the contract {contract.name!r}: {why}")
        return tables
