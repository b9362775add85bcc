"""The contracts of well-known datasets, end to end: a file of that shape, one run, one transaction scored."""

import csv
import json
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from serving_home import TestClient, settings

import pipeline.runs.local_run
from pipeline.evaluation.parity import measure_parity
from pipeline.registry.registry import Registry
from pipeline.runs.add_files import add_files
from processing.contracts import reader as contracts
from processing.contracts.home_contract import contract_for
from processing.features.feature_set import FeatureSet
from processing.job.job import run_job
from processing.job.spark import start_spark
from processing.storage.local import LocalHome
from processing.storage.open import open_home
from processing.store.open import open_store
from processing.tables.tables import open_tables
from serving.app import create_app

pytestmark = pytest.mark.spark

PARAMETERS = {"MaxIterations": "20", "LearningRate": "0.2", "MinAveragePrecision": "0.05"}
FROM_2012 = 1_325_376_000  # where unix_time begins in Kaggle's files


@pytest.fixture(scope="module", autouse=True)
def spark(tmp_path_factory: pytest.TempPathFactory, partitions: int) -> None:
    session = start_spark(tmp_path_factory.mktemp("spark"), cores="2")
    session.conf.set("spark.sql.codegen.wholeStage", "false")  # compiling takes longer than running here
    session.conf.set("spark.sql.shuffle.partitions", str(partitions))


def write_csv(path: Path, rows: list[dict[str, Any]]) -> Path:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def ulb_rows() -> list[dict[str, Any]]:
    """creditcard.csv: two days, seconds since the first transaction, 28 components, no id; one row occurs twice."""
    random, n = np.random.default_rng(1), 1_500
    fraud = random.random(n) < 0.06
    components = random.normal(size=(n, 28)) - 1.5 * fraud[:, None] * (np.arange(28) % 3 == 0)
    seconds, amount = np.sort(random.integers(0, 172_800, n)), random.lognormal(3, 1, n)
    rows = [
        {"Time": float(seconds[i])}
        | {f"V{j + 1}": components[i, j] for j in range(28)}
        | {"Amount": round(float(amount[i]), 2), "Class": int(fraud[i])}
        for i in range(n)
    ]
    return [*rows, rows[-1]]


def sparkov_rows() -> list[dict[str, Any]]:
    """fraudTrain.csv: its first column has no name, a card's number is a number, and each row has personal data."""
    random, n, days = np.random.default_rng(2), 2_400, 24
    known = contracts.load("sparkov").categorical["category"]
    seconds = np.sort(random.integers(0, days * 86_400, n))
    rows = []
    for i in range(n):
        fraud = random.random() < 0.06
        rows.append(
            {
                "": i,
                "trans_date_trans_time": "2019-01-01 00:00:18",
                "cc_num": 3_500_000_000_000_000 + int(random.integers(0, 40)),
                "merchant": f'fraud_Smith, "Sons" and {random.integers(0, 25)}',
                "category": "shopping_net" if fraud and i % 2 else str(random.choice(known)),
                "amt": round(float(random.lognormal(4.5 if fraud else 3.5, 0.6)), 2),
                "first": "Ann",
                "last": "O'Neil",
                "gender": str(random.choice(["F", "M"])),
                "street": "1 Main Street, Apt 2",
                "lat": 36.1,
                "long": -81.2,
                "city_pop": int(random.integers(100, 10**6)),
                "dob": "1988-03-09",
                "trans_num": f"{i:032x}",
                "unix_time": FROM_2012 + int(seconds[i]),
                "merch_lat": 36.0 + float(random.normal()),
                "merch_long": -82.0 + float(random.normal()),
                "is_fraud": int(fraud),
            }
        )
    return rows


def run(folder: Path, contract: str, file: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[LocalHome, dict[str, Any]]:
    """One run of the pipeline's definition; the feature job in this process, which has a Spark session."""
    home = open_home(folder)
    assert isinstance(home, LocalHome)
    known = contract_for(home, contract)

    def features(message: dict[str, Any], log: Any, **_: Any) -> dict[str, str]:
        with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
            result = run_job(home, known, message["arguments"]["run"], Path(scratch), stack)
        return {name: str(result[name]) for name in pipeline.runs.local_run.FEATURE_OUTPUTS}

    monkeypatch.setattr(pipeline.runs.local_run, "_compute_features", features)
    add_files(home, [file], known)
    outcome = pipeline.runs.local_run.run_pipeline(home, PARAMETERS, lambda event: None).require_success()
    evaluation: dict[str, Any] = json.loads(home.read(f"runs/{outcome.run}/evaluation/evaluation.json"))
    assert evaluation["gate"]["passed"], evaluation["gate"]["reason"]
    return home, evaluation


def score(folder: Path, row: dict[str, Any]) -> dict[str, Any]:
    with TestClient(create_app(settings(folder))) as client:
        reply = client.post("/v1/score", json=row)
    assert reply.status_code == 200, reply.text
    document: dict[str, Any] = reply.json()
    return document


def test_ulb_runs_and_scores_without_entities(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = ulb_rows()
    home, evaluation = run(tmp_path / "home", "ulb", write_csv(tmp_path / "creditcard.csv", rows), monkeypatch)
    table = open_tables(home, contracts.load("ulb")).features.scan().to_arrow()
    assert len(table) == len(rows)  # a row that occurs twice is two transactions
    assert not home.folders("online/")
    legitimate, fraud = ({**row, "Class": None} for row in (rows[0], next(r for r in rows if r["Class"])))
    for row in (legitimate, fraud):
        del row["Class"]
    replies = [score(home.folder, row) for row in (legitimate, fraud)]
    assert replies[0]["score"] < replies[1]["score"]
    assert {reply["model_version"] for reply in replies} == {evaluation["version"]}


def test_sparkov_runs_and_scores_with_cards_merchants_and_categories(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = sparkov_rows()
    home, evaluation = run(tmp_path / "home", "sparkov", write_csv(tmp_path / "fraudTrain.csv", rows), monkeypatch)
    features = FeatureSet(contracts.load("sparkov"))
    table = open_tables(home, features.contract).features.scan().to_arrow()
    assert len(table) == len(rows)
    assert set(table["card"].to_pylist()) == {str(row["cc_num"]) for row in rows}
    assert all(table[name].null_count == 0 for name in features.names)
    manifest = Registry(home).manifest(evaluation["version"])
    assert manifest["features"] == list(features.names)
    last = {name: rows[-1][name] for name in features.contract.columns[:-1]}
    last |= {"cc_num": str(last["cc_num"]), "trans_num": "new", "unix_time": last["unix_time"] + 60}
    usual = score(home.folder, last | {"amt": 20.0, "category": "home"})
    unusual = score(home.folder, last | {"trans_num": "newer", "amt": 2000.0, "category": "shopping_net"})
    unseen = score(home.folder, last | {"trans_num": "newest", "category": "lottery", "city_pop": None})
    assert usual["score"] < unusual["score"]
    assert 0.0 <= unseen["score"] <= 1.0


PAIRS = """
[[entity]]
name = "visitor"
columns = ["cc_num", "merchant"]
windows_days = [7]
fraud_windows_days = [7]
"""


def test_cards_at_merchants_that_are_no_entities_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = sparkov_rows()
    card, _ = contracts.load("sparkov").text.split('[[entity]]\nname = "store"')
    mine = tmp_path / "mine.toml"
    mine.write_text(card + PAIRS)
    home, _ = run(tmp_path / "home", str(mine), write_csv(tmp_path / "first.csv", rows), monkeypatch)
    contract = contracts.of_home(home)
    table = open_tables(home, contract).features.scan().to_arrow()
    assert table.column_names[4:6] == ["card", "merchant"]
    last = {name: rows[-1][name] for name in contract.columns[:-1]}
    last |= {"cc_num": str(last["cc_num"]), "trans_num": "new", "unix_time": last["unix_time"] + 60}
    with TestClient(create_app(settings(home.folder))) as client:
        assert client.post("/v1/score", json=last).status_code == 200
        assert client.post("/v1/feedback", json={"transaction_id": "new", "is_fraud": True}).status_code < 300
        (found,) = client.get("/v1/decisions", params={"merchant": last["merchant"]}).json()["decisions"]
    (decided,) = open_store(home, contract).decisions(1)
    assert found["transaction_id"] == decided.event.transaction_id == "new"
    assert decided.event.keys == (last["cc_num"], last["merchant"])
    seen = dict(zip(FeatureSet(contract).names, np.frombuffer(decided.features), strict=True))
    hour = last["unix_time"] // 3600
    week = [(str(row["cc_num"]), row["merchant"]) for row in rows if row["unix_time"] // 3600 > hour - 7 * 24]
    assert seen["visitor_count_7d"] == 1 + week.count(decided.event.keys) > 1
    add_files(home, [write_csv(tmp_path / "second.csv", [rows[-1] | last | {"is_fraud": 0}])], contract)
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as held:
        run_job(home, contract, "second", Path(scratch), held)
    features = open_tables(home, contract).features.scan().to_arrow()
    (new,) = [row for row in features.to_pylist() if row["transaction_id"] == "new"]
    assert new["is_fraud"] == 1  # as reported
    assert np.array([new[name] for name in seen]).tobytes() == decided.features
    parity = measure_parity(home)
    assert (parity["decisions"], parity["compared"], parity["different"], parity["other_features"]) == (1, 1, 0, 0)
