"""Drift in service: what was scored since, against the reference of the model that serves."""

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
import serving_home as homes
from typer.testing import CliRunner

from pipeline import drift
from pipeline.command import app
from pipeline.dataset import Dataset
from pipeline.reference import reference_of
from pipeline.registry import Registry
from processing import contract as contracts
from processing.aws import client
from processing.errors import BadInput
from processing.features import FeatureSet
from processing.online import Decision, Event, open_store

START = datetime(2026, 7, 1, tzinfo=UTC)
CONTRACT = contracts.load("transactions")
NAMES = FeatureSet(CONTRACT).names
AMOUNT = NAMES.index("amount")


def rows(n, seed):
    random = np.random.default_rng(seed)
    return random.lognormal(3.0, 1.0, (n, len(NAMES))), random.beta(1, 30, n)


@pytest.fixture
def home(tmp_path):
    """A home whose model has a reference."""
    place = homes.begin(tmp_path / "home")
    X, score = rows(3000, 0)  # noqa: N806
    y = (np.arange(len(X)) % 50 == 0).astype(np.int8)
    test = Dataset(X, y, X[:, AMOUNT], np.full(len(X), 20_000), {}, np.array([""] * len(X), object), "")
    reference = json.dumps(reference_of(test, score, 0.1, NAMES)).encode()
    homes.promote(place, homes.publish(place, more={"reference.json": reference}, threshold=0.1))
    return place


def decide(home, n=500, seed=1, change=np.copy, score=lambda s: s, when=START, version=None):
    store = open_store(home, CONTRACT)
    X, scores = rows(n, seed)  # noqa: N806
    X, scores = change(X), score(scores)  # noqa: N806
    for i in range(n):
        event = Event(f"{seed}-{i}", int(when.timestamp() * 1e6) + i, 100, ("c", "t"))
        name = version or Registry(home).latest().version
        made = Decision(event, "legit", float(scores[i]), 0.1, name, X[i].astype("<f8").tobytes(), when)
        store.record(made)
    store.close()


def test_what_is_scored_as_ever_has_not_drifted(home):
    decide(home)
    found = drift.measure_drift(home, START)
    assert (found["decisions"], found["scored_by_it"], found["enough"]) == (500, 500, True)
    assert {one["level"] for one in found["features"].values()} == {"small"}
    assert found["score"]["level"] == "small"
    assert found["alerts"]["now"] == pytest.approx(found["alerts"]["reference"], abs=0.03)
    assert "hour" not in found["features"]
    assert drift.above(found, 0.25) == []


def test_the_feature_that_moved_is_named_first(home):
    def dearer(X):  # noqa: N803
        X = X.copy()  # noqa: N806
        X[:, AMOUNT] *= 3
        return X

    decide(home, change=dearer)
    found = drift.measure_drift(home, START)
    assert next(iter(found["features"])) == "amount"
    assert found["features"]["amount"]["level"] == "great"
    assert found["features"]["amount"]["ks"] > 0.3
    assert drift.above(found, 0.25) == ["amount"]
    assert found["feature_drift"] == found["features"]["amount"]["psi"] > 0.25


def test_scores_of_other_models_are_left_out_and_their_features_are_not(home):
    decide(home)
    decide(home, seed=2, score=lambda s: s + 0.5, version="20250101T000000Z-aaaaa")
    found = drift.measure_drift(home, START)
    assert (found["decisions"], found["scored_by_it"]) == (1000, 500)
    assert found["score"]["level"] == "small"


def test_a_few_scores_of_a_new_model_say_nothing_yet(home):
    decide(home, version="20250101T000000Z-aaaaa")
    decide(home, n=3, seed=2, score=lambda s: s + 0.5)
    found = drift.measure_drift(home, START)
    assert found["score"]["level"] == "too few"
    assert found["alerts"]["now"] is None
    assert drift.above(found, 0.25) == []


def test_scores_that_moved_are_told(home):
    decide(home, score=lambda s: s + 0.05)
    found = drift.measure_drift(home, START)
    assert drift.above(found, 0.25) == ["score"]
    assert found["alerts"]["now"] > 2 * found["alerts"]["reference"]


def test_only_what_was_decided_since_counts_and_few_decisions_say_nothing(home):
    decide(home, n=100, change=lambda x: x * 100)
    decide(home, n=300, seed=2, when=START - timedelta(days=2))
    found = drift.measure_drift(home, START)
    assert (found["decisions"], found["enough"]) == (100, False)
    assert {one["level"] for one in found["features"].values()} == {"too few"}
    assert (found["feature_drift"], found["score_drift"]) == (0.0, 0.0)
    assert drift.above(found, 0.25) == []
    assert drift.measure_drift(home, START - timedelta(days=3))["decisions"] == 400
    assert drift.measure_drift(home)["decisions"] == 0  # nothing since the promotion, which is now
    assert "Too few to say" in drift.page_of(found).decode()


def test_the_command_shows_writes_and_fails(home, tmp_path):
    decide(home, change=lambda x: x * 2)
    page = tmp_path / "drift.html"
    where = ["drift", "--home", str(home.folder), "--since", "2026-07-01"]
    shown = CliRunner().invoke(app, [*where, "--page", str(page)])
    assert shown.exit_code == 0, shown.output
    assert "amount" in shown.stdout
    assert "great" in shown.stdout
    text = page.read_text()
    assert "Great drift" in text
    assert "<script" not in text
    assert "http" not in text
    as_json = CliRunner().invoke(app, [*where, "--json"])
    assert json.loads(as_json.stdout)["decisions"] == 500
    failed = CliRunner().invoke(app, [*where, "--fail-above", "0.25"])
    assert failed.exit_code == 1
    assert "PSI above 0.25" in str(failed.exception)
    assert CliRunner().invoke(app, [*where, "--fail-above", "50"]).exit_code == 0


@pytest.mark.parametrize(
    ("prepare", "said"),
    [
        (lambda home: None, "no model serves"),
        (lambda home: homes.promote(home, homes.publish(home)), "has no reference.json"),
    ],
)
def test_without_something_to_compare_with_it_says_so(tmp_path, prepare, said):
    home = homes.begin(tmp_path / "home")
    prepare(home)
    with pytest.raises(BadInput, match=said):
        drift.measure_drift(home)


def test_a_time_that_is_none_is_refused():
    assert drift.since_of("2026-07-01") == START
    with pytest.raises(BadInput, match="2026-07-01"):
        drift.since_of("yesterday")


@pytest.mark.cloud
def test_the_metrics_reach_cloudwatch(home, aws):
    decide(home)
    found = drift.measure_drift(home, START)
    put = drift.publish(found)
    assert set(put) == {"FeatureDrift", "ScoreDrift"}
    told = client("cloudwatch").list_metrics(Namespace="Fraudline")["Metrics"]
    named = {metric["MetricName"]: metric["Dimensions"] for metric in told}
    assert named.items() >= {name: [{"Name": "service", "Value": "fraudline-drift"}] for name in put}.items()
    assert drift.publish({**found, "enough": False}) == {}
