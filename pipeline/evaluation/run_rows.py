"""The test rows of a run, under its own contract and under those of earlier models."""

from dataclasses import dataclass, field

import numpy as np

from pipeline.data import dataset
from pipeline.data.dataset import Dataset
from processing.contract import Contract
from processing.contracts.model_contract import not_computable
from processing.errors import Damaged
from processing.features.feature_set import FeatureSet
from processing.job.earlier_features import folder_of
from processing.storage.home import Home
from processing.storage.scratch import scratch_folder


class NotComparable(Exception):
    """A version cannot be measured on the test rows; the message says why."""


@dataclass(frozen=True)
class RunRows:
    """The test rows of a run: `test` has the features of the run's contract, `under` those of another one."""

    home: Home
    run: str
    contract: Contract
    test: Dataset
    _read: dict[str, Dataset] = field(default_factory=dict)

    def under(self, earlier: Contract) -> Dataset:
        """The same rows with the features of an earlier contract; each set is read once.

        Raises NotComparable if there are none, and Damaged if they are not the same rows.
        """
        if FeatureSet(earlier).definition == FeatureSet(self.contract).definition:
            return self.test
        if why := not_computable(earlier, self.contract):
            raise NotComparable(why)
        folder = folder_of(self.run, earlier)
        if folder not in self._read:
            self._read[folder] = self._read_folder(folder, earlier)
        return self._read[folder]

    def _read_folder(self, folder: str, earlier: Contract) -> Dataset:
        keys = [entry.key for entry in self.home.entries(f"{folder}/") if entry.key.endswith(".parquet")]
        if not keys:
            raise NotComparable("the feature job wrote no test rows with its features")
        with scratch_folder("earlier") as scratch:
            for number, key in enumerate(keys):
                (scratch / f"{number}.parquet").write_bytes(self.home.read(key))
            rows = dataset.read(scratch, earlier)
        for name in ("ids", "day", "y", "amount"):  # both are in the order of time and id
            if not np.array_equal(getattr(rows, name), getattr(self.test, name)):
                raise Damaged(f"{self.home.url_of(folder)} does not hold the rows of the test set; run again")
        return rows
