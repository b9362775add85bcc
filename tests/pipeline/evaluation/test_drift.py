"""Drift in production: the transactions scored since a given time, compared with the serving model's reference."""

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
import serving_home as homes
from typer.testing import CliRunner

from pipeline.command.main import app
from pipeline.data.dataset import Dataset
from pipeline.evaluation import drift
from pipeline.evaluation.distance import LARGE_PSI
from pipeline.evaluation.drift_metrics import drift_metrics, publish_metrics
from pipeline.evaluation.model_reference import chance_of, psi, reference_of
from pipeline.evaluation.report.drift_page import render_drift_page
from pipeline.registry.registry import Registry
from processing.aws_client import client
from processing.contracts import reader as contracts
from processing.durations import DAY_US
from processing.errors import BadInput, Damaged
from processing.features.feature_set import FeatureSet
from processing.store.decisions import Decision, Event
from processing.store.open import open_store

START = datetime(2026, 7, 1, tzinfo=UTC)
CONTRACT = contracts.load("transactions")
NAMES = FeatureSet(CONTRACT).names
AMOUNT = NAMES.index("amount")


def rows(n, seed):
    """Features, scores and (customer, terminal) pairs of n transactions."""
    random = np.random.default_rng(seed)
    entities = [(f"c{c}", f"t{t}") for c, t in random.integers(0, 400, (n, 2))]
    return random.lognormal(3.0, 1.0, (n, len(NAMES))), random.beta(1, 30, n), entities


def reference_for(X, score, entities, days=7):  # noqa: N803
    """The reference of a model tested on these rows, which are spread over `days` days."""
    y = (np.arange(len(X)) % 50 == 0).astype(np.int8)
    day = 20_000 + np.arange(len(X)) * days // len(X)
    of = {name: np.array(own) for name, own in zip(("customer", "terminal"), zip(*entities, strict=True), strict=True)}
    names = NAMES if X.shape[1] == len(NAMES) else [f"f{j}" for j in range(X.shape[1])]
    test = Dataset(X, y, X[:, 0], day, of, np.array([""] * len(X), object), "")
    return json.loads(json.dumps(reference_of(test, score, 0.1, names)))


@pytest.fixture
def home(tmp_path):
    """A home whose model has a reference."""
    return home_of(tmp_path / "home", reference_for(*rows(3000, 0)))


def home_of(folder, reference):
    place = homes.begin(folder)
    more = {"reference.json": json.dumps(reference).encode()}
    homes.promote(place, homes.publish(place, more=more, threshold=0.1))
    return place


def decide(home, n=500, seed=1, change=np.copy, score=lambda s: s, when=START, version=None):
    store = open_store(home, CONTRACT)
    X, scores, entities = rows(n, seed)  # noqa: N806
    X, scores = change(X), score(scores)  # noqa: N806
    for i in range(n):
        event = Event(f"{seed}-{i}", int(when.timestamp() * 1e6) + i * 2 * DAY_US // n, 100, entities[i])
        name = version or Registry(home).latest().version
        decision = Decision(event, "legit", float(scores[i]), 0.1, name, X[i].astype("<f8").tobytes(), when)
        store.record(decision)
    store.close()


def test_unchanged_transactions_have_not_drifted(home):
    decide(home)
    measured = drift.measure_drift(home, START)
    assert (measured["decisions"], measured["scored_by_it"], measured["enough"]) == (500, 500, True)
    assert {one["level"] for one in measured["features"].values()} == {"small"}
    assert measured["score"]["level"] == "small"
    assert measured["alerts"]["now"] == pytest.approx(measured["alerts"]["reference"], abs=0.03)
    assert "hour" not in measured["features"]
    assert drift.above(measured, 0.25) == []


def test_the_changed_feature_is_listed_first(home):
    def tripled(X):  # noqa: N803
        X = X.copy()  # noqa: N806
        X[:, AMOUNT] *= 3
        return X

    decide(home, change=tripled)
    measured = drift.measure_drift(home, START)
    assert next(iter(measured["features"])) == "amount"
    assert measured["features"]["amount"]["level"] == "great"
    assert measured["features"]["amount"]["ks"] > 0.3
    assert drift.above(measured, 0.25) == ["amount"]
    assert measured["feature_drift"] == measured["features"]["amount"]["psi"] > 0.25


def test_scores_of_other_models_are_excluded_but_their_features_count(home):
    decide(home)
    decide(home, seed=2, score=lambda s: s + 0.5, version="20250101T000000Z-aaaaa")
    measured = drift.measure_drift(home, START)
    assert (measured["decisions"], measured["scored_by_it"]) == (1000, 500)
    assert measured["score"]["level"] == "small"


def test_decisions_of_a_model_with_as_many_other_features_are_left_out(home):
    """As after a change of the contract: the same number in the same place means something else."""
    decide(home)
    other = homes.publish(home, seed=3, features=list(reversed(NAMES)))
    decide(home, seed=2, change=lambda X: X[:, ::-1], version=other)  # noqa: N803
    found = drift.measure_drift(home, START)
    assert found["decisions"] == 500
    assert drift.above(found, 0.25) == []


def test_40_scores_of_a_new_model_are_too_few(home):
    decide(home, version="20250101T000000Z-aaaaa")
    decide(home, n=40, seed=2, score=lambda s: s + 0.5)
    measured = drift.measure_drift(home, START)
    assert measured["score"]["level"] == "too few"
    assert measured["alerts"]["now"] is None
    assert drift.above(measured, 0.25) == []
    assert "score" in drift.undecided(measured, 0.25)


def test_changed_scores_are_reported(home):
    decide(home, score=lambda s: s + 0.05)
    measured = drift.measure_drift(home, START)
    assert drift.above(measured, 0.25) == ["score"]
    assert measured["alerts"]["now"] > 2 * measured["alerts"]["reference"]


def test_only_later_decisions_count_and_45_are_too_few(home):
    decide(home, n=45, change=lambda x: x * 100)
    decide(home, n=300, seed=2, when=START - timedelta(days=2))
    measured = drift.measure_drift(home, START)
    assert (measured["decisions"], measured["enough"]) == (45, False)
    assert {one["level"] for one in measured["features"].values()} == {"too few"}
    assert (measured["feature_drift"], measured["score_drift"]) == (0.0, 0.0)
    assert drift.above(measured, 0.25) == []
    assert drift.measure_drift(home, START - timedelta(days=3))["decisions"] == 345
    assert drift.measure_drift(home)["decisions"] == 0  # none since the promotion a moment ago
    assert "Too few transactions" in render_drift_page(measured).decode()


@pytest.mark.slow
def test_the_command_prints_drift_writes_a_page_and_fails_above_a_limit(home, tmp_path):
    decide(home, change=lambda x: x * 2)
    page = tmp_path / "drift.html"
    where = ["drift", "--home", str(home.folder), "--since", "2026-07-01"]
    result = CliRunner().invoke(app, [*where, "--page", str(page)])
    assert result.exit_code == 0, result.output
    assert "amount" in result.stdout
    assert "large" in result.stdout
    text = page.read_text()
    assert "Large drift" in text
    assert "<script" not in text
    assert "http" not in text
    as_json = CliRunner().invoke(app, [*where, "--json"])
    assert json.loads(as_json.stdout)["decisions"] == 500
    failed = CliRunner().invoke(app, [*where, "--fail-above", "0.25"])
    assert failed.exit_code == 1
    assert "PSI above 0.25, beyond chance" in str(failed.exception)
    assert CliRunner().invoke(app, [*where, "--fail-above", "50"]).exit_code == 0


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda home: None, "no model serves"),
        (lambda home: homes.promote(home, homes.publish(home)), "has no reference.json"),
    ],
)
def test_without_a_reference_the_error_says_so(tmp_path, prepare, message):
    home = homes.begin(tmp_path / "home")
    prepare(home)
    with pytest.raises(BadInput, match=message):
        drift.measure_drift(home)


def test_an_invalid_time_is_refused():
    assert drift.parse_since("2026-07-01") == START
    with pytest.raises(BadInput, match="2026-07-01"):
        drift.parse_since("yesterday")


class Population:
    """Transactions whose features depend mostly on their terminal and customer. `about`: the share of terminals and
    customers that are active on a day."""

    def __init__(self, seed, columns=6, about=0.15):
        random = np.random.default_rng(seed)
        self.of_terminal, self.of_customer = random.normal(size=(400, columns)), random.normal(size=(1500, columns))
        self.hourly = random.normal(size=(24, columns)) * 0.3
        self.often, self.about = random.gamma(1.0, size=400) + 0.1, about

    def draw(self, seed, n, days):
        """Features, scores and (customer, terminal) pairs of n transactions within `days` days."""
        random = np.random.default_rng(seed)
        time = np.sort(random.random(n)) * days
        terminal, customer, hour = np.empty(n, int), np.empty(n, int), (time * 24).astype(int) % 24
        for day in np.unique(np.floor(time)):
            here, often = np.floor(time) == day, self.often * (random.random(len(self.often)) < self.about)
            terminal[here] = random.choice(len(often), here.sum(), p=often / often.sum())
            about = np.flatnonzero(random.random(len(self.of_customer)) < self.about)
            customer[here] = random.choice(about, here.sum())
        X = self.of_terminal[terminal] + 0.6 * self.of_customer[customer] + self.hourly[hour]  # noqa: N806
        X += 0.6 * random.normal(size=X.shape)  # noqa: N806
        X[:, 0] = np.round(X[:, 0])
        X[self.of_terminal[terminal][:, 1] > 1, 1] = np.nan
        return X, 1 / (1 + np.exp(3 - X[:, 2])), [(f"c{c}", f"t{t}") for c, t in zip(customer, terminal, strict=True)]


def figures(reference, X, entities, days, **options):  # noqa: N803
    """The PSI of every column of rows spread over `days` days, and the effect of chance on it."""
    names = list(reference["features"])
    periods = np.arange(len(X)) * days * 8 // len(X)
    chance = chance_of(reference, names, list(zip(*entities, strict=True)), periods, **options)
    return np.array([psi(reference["features"][name], X[:, j]) for j, name in enumerate(names)]), chance


SIZES = ((50, 1), (200, 1), (1000, 2), (5000, 7))


@pytest.mark.slow
def test_an_unchanged_population_raises_no_more_false_alarms_than_promised(monkeypatch):
    """120 samples of all sizes: the number of alarms is binomial, and exceeds 14 in one of 1000 such tests."""
    monkeypatch.setattr("pipeline.evaluation.reference_sample.ROWS", 1000)
    monkeypatch.setattr("pipeline.evaluation.chance.SIMULATED", 1500)
    alarms, by_limit_alone = [], {n: 0 for n, _ in SIZES}
    for seed in range(6):
        population = Population(seed)
        reference = reference_for(*population.draw(1000 + seed, 4000, 7))
        for sample in range(20):
            n, days = SIZES[sample % len(SIZES)]
            X, _, entities = population.draw(10_000 + 100 * seed + sample, n, days)  # noqa: N806
            psis, chance = figures(reference, X, entities, days, level=0.05, draws=150, seed=sample)
            assert (chance.p_values(psis).min() <= 0.05) >= (psis > chance.limits * 1.0001).any()
            alarms.append(bool((psis > chance.limits).any()))
            by_limit_alone[n] += bool((psis > LARGE_PSI).any())
    assert len(alarms) == 120
    assert sum(alarms) <= 14
    assert by_limit_alone[50] > 24  # false alarms in 30 such samples by the fixed limit alone


def test_a_changed_feature_is_detected_and_named_with_enough_rows():
    population = Population(3)
    reference = reference_for(*population.draw(1, 5000, 7))
    X, _, entities = population.draw(2, 5000, 7)  # noqa: N806
    X[:, 4] += 1.5
    psis, chance = figures(reference, X, entities, 7)
    assert psis[4] > LARGE_PSI > chance.limits.max()
    assert (psis > chance.limits).tolist() == [False] * 4 + [True, False]
    assert chance.p_values(psis)[4] < 0.01


def test_the_same_sample_gives_the_same_limits():
    reference = reference_for(*rows(3000, 0))
    X, _, entities = rows(300, 1)  # noqa: N806
    once, again = (figures(reference, X, entities, 2, draws=100)[1] for _ in range(2))
    assert (once.limits == again.limits).all()


def test_rows_of_few_terminals_give_wider_limits_than_rows_of_many():
    population = Population(4)
    reference = reference_for(*population.draw(1, 5000, 7))
    X, _, entities = population.draw(2, 1000, 2)  # noqa: N806
    few = [(customer, f"t{i % 5}") for i, (customer, _) in enumerate(entities)]
    assert (figures(reference, X, few, 2)[1].limits > 1.5 * figures(reference, X, entities, 2)[1].limits).all()


def test_the_sample_of_the_test_rows_is_bounded_and_contains_no_entity_ids():
    population = Population(5, columns=40)
    small, large = (reference_for(*population.draw(1, n, 21)) for n in (5_000, 20_000))
    for reference in (small, large):
        assert not {"c1", "t1"} & set(json.dumps(reference["sample"]).replace('"', " ").split())
    sizes = [len(json.dumps(reference["sample"])) for reference in (small, large)]
    assert sizes[1] < 1.5 * sizes[0]
    assert max(sizes) < 500_000


def test_a_damaged_sample_is_an_error():
    reference = reference_for(*rows(3000, 0))
    X, _, entities = rows(100, 1)  # noqa: N806
    reference["sample"]["entities"]["terminal"]["bins"] = "cut"
    with pytest.raises(Damaged, match="the next run's model brings a new one"):
        figures(reference, X, entities, 2)


@pytest.mark.parametrize("seed", range(3))
def test_200_decisions_of_an_unchanged_population_do_not_fail_the_command(tmp_path, seed):
    population = Population(seed, columns=len(NAMES), about=0.04)
    home = home_of(tmp_path / "home", reference_for(*population.draw(1, 3000, 7)))
    X, score, entities = population.draw(2, 200, 1)  # noqa: N806
    store = open_store(home, CONTRACT)
    version = Registry(home).latest().version
    for i, row in enumerate(X):
        event = Event(f"{i}", int(START.timestamp() * 1e6) + i * DAY_US // 200, 100, entities[i])
        store.record(Decision(event, "legit", float(score[i]), 0.1, version, row.astype("<f8").tobytes(), START))
    store.close()
    where = ["drift", "--home", str(home.folder), "--since", "2026-07-01"]
    measured = json.loads(CliRunner().invoke(app, [*where, "--json"]).stdout)
    assert max(one["psi"] for one in measured["features"].values()) > 0.25
    assert not any(one["beyond_chance"] for one in measured["features"].values())
    assert (measured["feature_drift"], drift_metrics(measured).get("FeatureDrift", 0.0)) == (0.0, 0.0)
    result = CliRunner().invoke(app, [*where, "--fail-above", "0.25"])
    assert result.exit_code == 0, result.output
    assert "too few transactions to tell" in result.stderr
    assert set(drift.undecided(measured, 0.25)) >= set(measured["too_few"]) != set()


def test_a_reference_of_an_earlier_version_needs_more_decisions(tmp_path, monkeypatch):
    reference = reference_for(*rows(3000, 0))
    del reference["sample"]
    home = home_of(tmp_path / "home", reference)
    decide(home, change=lambda x: x * 3)
    measured = drift.measure_drift(home, START)
    assert (measured["sampled"], measured["enough"], drift.above(measured, 0.25)) == (False, False, [])
    assert {one["level"] for one in measured["features"].values()} == {"too few"}
    result = CliRunner().invoke(app, ["drift", "--home", str(home.folder), "--since", "2026-07-01"])
    assert "The effect of chance is unknown" in result.stdout
    assert "Chance is unknown" in render_drift_page(measured).decode()
    monkeypatch.setattr(drift, "FEWEST_UNSAMPLED", 500)
    assert "amount" in drift.above(drift.measure_drift(home, START), 0.25)


@pytest.mark.cloud
def test_the_metrics_reach_cloudwatch(home, aws):
    decide(home)
    measured = drift.measure_drift(home, START)
    published = publish_metrics(measured)
    assert set(published) == {"FeatureDrift", "ScoreDrift"}
    metrics = client("cloudwatch").list_metrics(Namespace="Fraudline")["Metrics"]
    dimensions = {metric["MetricName"]: metric["Dimensions"] for metric in metrics}
    assert dimensions.items() >= {name: [{"Name": "service", "Value": "fraudline-drift"}] for name in published}.items()
    assert publish_metrics({**measured, "enough": False}) == {}
