"""Whether the API saw what the feature job computes: recorded decisions compared with the features table, bit by bit.

A decision records the features that it was based on. Once a run has read its transaction, the features table has the
features of the same transaction, computed from the whole history. They are the same bits, unless the API did not know
then what the job knows now: a transaction that arrived after a later one of the same customer, or a label that was
reported late.
"""

import functools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.evaluation.recorded_decisions import latest_decisions
from pipeline.registry.registry import Registry
from processing.arrays import Floats
from processing.contract import Contract
from processing.contracts import reader as contracts
from processing.contracts.model_contract import training_contract
from processing.durations import DAY_US
from processing.errors import FraudlineError
from processing.features.feature_set import FeatureSet
from processing.storage.home import Home
from processing.store.decisions import Decision, Event
from processing.tables.tables import open_tables


def measure_parity(home: Home, since: datetime | None = None) -> dict[str, Any]:
    """Compare the latest decisions, none of them made before `since`, with the features table; JSON-ready.

    {"decisions", "compared", "different", "features" ({name: in how many it differs}, most first), "not_in_tables",
    "displaced" (the tables have another transaction under the id), "other_features" (by a model whose features the job
    no longer computes)}. Raises BadInput if the contract records no decisions, Damaged and StoreUnavailable.
    """
    contract = contracts.of_home(home)
    decisions = latest_decisions(home, contract, since)
    has_same = _has_features_of(Registry(home), contract)
    same = [decision for decision in decisions if has_same(decision.model_version)]
    tables = open_tables(home, contract)

    def rows_of(day: int) -> pa.Table:
        return tables.read("features", [day])

    return compare(same, rows_of, contract) | {
        "decisions": len(decisions),
        "other_features": len(decisions) - len(same),
    }


def compare(decisions: Sequence[Decision], rows_of: Callable[[int], pa.Table], contract: Contract) -> dict[str, Any]:
    """Compare decisions with the rows of the features table; `rows_of` reads those of a day since 1970."""
    names = FeatureSet(contract).names
    counts, differing = Counter[str](), Counter[str]()
    for day, some in groupby(sorted(decisions, key=_day), key=_day):
        by_id = {decision.event.transaction_id: decision for decision in some}
        rows = rows_of(day)
        rows = rows.filter(pc.is_in(rows["transaction_id"], pa.array(list(by_id), pa.string())))
        counts["not_in_tables"] += len(by_id) - len(rows)
        values = np.column_stack([rows[name].to_numpy() for name in names]) if len(rows) else np.empty((0, len(names)))
        for row, computed in zip(_events(rows, contract), values, strict=True):
            decision = by_id[row.transaction_id]
            if decision.event != row:
                counts["displaced"] += 1
                continue
            counts["compared"] += 1
            different = np.flatnonzero(_bits(computed) != _bits(np.frombuffer(decision.features, "<f8")))
            counts["different"] += bool(len(different))
            differing.update(names[index] for index in different)
    figures = {name: counts[name] for name in ("compared", "different", "not_in_tables", "displaced")}
    return figures | {"features": dict(differing.most_common())}


def _has_features_of(registry: Registry, contract: Contract) -> Callable[[str], bool]:
    """Whether a model's features are those that the job computes under a contract."""
    definition = FeatureSet(contract).definition

    @functools.cache
    def has_them(version: str) -> bool:
        try:
            return FeatureSet(training_contract(registry.open(version).manifest, version)).definition == definition
        except FraudlineError:  # it is gone, or cannot be read any more
            return False

    return has_them


def _day(decision: Decision) -> int:
    return decision.event.time_us // DAY_US


def _events(rows: pa.Table, contract: Contract) -> list[Event]:
    columns: Mapping[str, list[Any]] = {
        "time_us": rows["event_time"].cast(pa.int64()).to_pylist(),
        **{name: rows[name].to_pylist() for name in ("transaction_id", "amount_minor", *contract.key_names)},
    }
    keys = list(zip(*(columns[name] for name in contract.key_names), strict=True))
    own = (columns[name] for name in ("transaction_id", "time_us", "amount_minor"))
    return [Event(*each) for each in zip(*own, keys, strict=True)]


def _bits(values: Floats) -> Any:
    """The bits of values; one pattern for every NaN."""
    return np.where(np.isnan(values), np.nan, values).view(np.int64)
