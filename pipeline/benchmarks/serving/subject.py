"""The benchmark's subject: a home with two default models and a month of history in its online store, and requests."""

import json
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.benchmarks.scorer import labelled_features
from pipeline.estimators.factory import build_estimator
from pipeline.estimators.hyperparameters import Hyperparameters
from pipeline.registry.registry import MODEL_FILE, Registry
from pipeline.registry.requirements import library_versions
from pipeline.scorer.bundle import ModelBundle
from processing.arrays import Floats
from processing.contract import Contract
from processing.contracts import reader as contracts
from processing.contracts.home_contract import adopt
from processing.durations import HOUR_US
from processing.features.entity_keys import named_keys
from processing.features.feature_set import FeatureSet, minor_units
from processing.storage.home import Home
from processing.storage.open import open_home
from processing.store.open import open_store
from processing.store.profiles.settling import settled_profiles
from processing.synthetic.synthesize import synthesize

DAYS = 38  # the longest window and the label delay
ID = "@ID@"  # placeholder for the id in a request; the load generator fills it in
MODELS = 2


@dataclass(frozen=True)
class Subject:
    """The home, its versions, and the same transactions twice: as requests to the product, with `ID` for the id, and
    as rows of features for other servers."""

    home: Home
    contract: Contract
    versions: list[str]
    model_file: Path
    requests: list[dict[str, Any]]
    rows: list[list[float]]


def make_subject(folder: Path, *, customers: int, requests: int) -> Subject:
    """Synthesize transactions up to yesterday. The last day becomes requests, the days before fill the online store."""
    home = open_home(folder / "home")
    contract = contracts.load("transactions")
    adopt(home, contract)
    transactions = synthesize(date.today() - timedelta(days=DAYS + 1), DAYS, customers)
    values, fraud = labelled_features(transactions, contract)
    time_us = transactions.column("event_time").cast("int64").to_numpy()
    last = time_us >= time_us.max() // (24 * HOUR_US) * 24 * HOUR_US
    _fill_store(home, contract, transactions.filter(pa.array(~last)))
    registry, versions = Registry(home), []
    for seed in range(MODELS):
        model = build_estimator(Hyperparameters(random_seed=seed)).fit(values[~last], fraud[~last])
        bundle = ModelBundle.of_model(model, {}, values[last])
        versions.append(_publish(registry, contract, bundle, values[last]))
        (folder / MODEL_FILE).write_bytes(bundle.model)
    registry.promote(versions[-1], by="benchmark", reason="for the benchmark", force=True)
    chosen = np.random.default_rng(0).permutation(np.flatnonzero(last))[:requests]
    filled = np.where(np.isnan(values), -1.0, values)[chosen]  # not every server's JSON reader accepts NaN
    return Subject(
        home,
        contract,
        versions,
        folder / MODEL_FILE,
        [_request(row) for row in transactions.take(pa.array(chosen)).to_pylist()],
        filled.tolist(),
    )


def _request(row: dict[str, Any]) -> dict[str, Any]:
    request = {name: value for name, value in row.items() if name != "is_fraud"}
    return request | {"transaction_id": ID, "event_time": row["event_time"].isoformat()}


def _publish(registry: Registry, contract: Contract, bundle: ModelBundle, test: Floats) -> str:
    if bundle.scorer is None:
        raise RuntimeError(bundle.scorer_reason)
    manifest = {
        "contract": {"name": contract.name, "digest": contract.digest, "text": contract.text},
        "features": list(FeatureSet(contract).names),
        "threshold": float(np.quantile(bundle.scores(test), 0.99)),
        "libraries": library_versions(),
        "scorer_reason": bundle.scorer_reason,
    }
    metrics = {"gate": {"passed": True, "reason": "published for a benchmark"}}
    return registry.publish(bundle.files, manifest, metrics, datetime.now(UTC))


def _fill_store(home: Home, contract: Contract, transactions: pa.Table) -> None:
    """Settle the store's profiles as the feature job would."""
    us = transactions.column("event_time").cast("int64").to_numpy()
    store = open_store(home, contract, timeout=60.0)
    columns = {"transaction_id": transactions.column("transaction_id"), "us": us}
    columns["amount_minor"] = minor_units(transactions.column("amount").to_numpy(), contract)
    columns["is_fraud"] = transactions.column("is_fraud")
    columns |= named_keys(contract, {name: transactions.column(name) for name in contract.key_columns})
    rows = pa.table(columns | {name: transactions.column(name) for name in store.plan.event_columns})
    horizon = int(us.max()) // HOUR_US + 1
    profiles = (list(settled_profiles(store.plan, each, rows, horizon * HOUR_US)) for each in store.plan.layouts)
    store.refresh(horizon, profiles, [], 0)
    store.close()


def bodies(subject: Subject, kind: str) -> bytes:
    """The request bodies, one per line. kind: "transaction" for the product, else the name of a peer's input."""
    if kind == "transaction":
        return "".join(json.dumps(request) + "\n" for request in subject.requests).encode()
    return "".join(json.dumps({kind: [row]}) + "\n" for row in subject.rows).encode()
