"""Why a transaction is flagged as fraud: exact contributions of the features, and their descriptions."""

import itertools
import math
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as example_settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from serving_home import TestClient, explained_home, promote, publish, row, settings
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits

from pipeline.estimators.binner import TailBinner
from pipeline.registry.registry import Registry
from pipeline.scorer.arrays_file import COVER, UnusableScorer, read_arrays, write_arrays
from pipeline.scorer.contributions import Contributions
from pipeline.scorer.forest import PackedScorer
from pipeline.scorer.packers.choose import pack
from processing.arrays import Floats
from processing.contracts import reader as contracts
from processing.features.feature_set import FeatureSet
from serving.app import create_app
from serving.decision.loaded_model import load_model

Arrays = dict[str, NDArray[Any]]

CONTRACT = contracts.load("transactions")
NAMES = FeatureSet(CONTRACT).names
WIDTH = 4


def fitted(seed: int = 0, *, binned: bool = True, leaves: int | None = 6, trees: int = 4) -> tuple[Arrays, Floats]:
    """A small packed model and its training rows. The last of the four features is noise that no tree looks at."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(150, WIDTH)).round(1)
    x[random.random(x.shape) < 0.15] = np.nan
    x[:, -1] = 0.0
    y = np.nansum(x, axis=1) + random.normal(size=len(x)) > 0
    forest = HistGradientBoostingClassifier(
        max_iter=trees, max_leaf_nodes=leaves, min_samples_leaf=1, random_state=seed
    )
    with threadpool_limits(1):
        model = Pipeline([("bins", TailBinner()), ("trees", forest)]) if binned else forest
        arrays = pack(model.fit(x, y))
    assert arrays is not None
    return arrays, x


def raw_score(arrays: Arrays, row: Floats, known: Collection[int]) -> float:
    """The raw score when some features are known: at a split on another one both ways, as the training rows went."""

    def below(node: int) -> float:
        child = int(arrays["left"][node])
        if not child:
            return float(arrays["threshold"][node])
        feature = arrays["feature"][node]
        if feature in known:
            value = row[feature]
            goes_left = arrays["missing"][node] if np.isnan(value) else value <= arrays["threshold"][node]
            return below(child if goes_left else child + 1)
        weights = arrays[COVER][[child, child + 1]] / arrays[COVER][node]
        return float(weights[0] * below(child) + weights[1] * below(child + 1))

    return float(arrays["baseline"]) + sum(below(int(root)) for root in arrays["roots"])


def shapley(arrays: Arrays, row: Floats) -> Floats:
    """Shapley values by their definition: over all orders in which the features can become known."""
    values = np.zeros(WIDTH)
    for order in itertools.permutations(range(WIDTH)):
        for place, feature in enumerate(order):
            known = set(order[:place])
            values[feature] += raw_score(arrays, row, known | {feature}) - raw_score(arrays, row, known)
    return values / math.factorial(WIDTH)


class TestContributions:
    @example_settings(max_examples=25, deadline=None)
    @given(st.integers(0, 10_000), st.booleans(), st.sampled_from([2, 6, None]), st.data())
    def test_contributions_equal_shapley_values(
        self, seed: int, binned: bool, leaves: int | None, data: st.DataObject
    ) -> None:
        arrays, rows = fitted(seed, binned=binned, leaves=leaves, trees=2)
        contributions = Contributions(arrays)
        others = st.lists(st.floats(allow_infinity=False), min_size=WIDTH, max_size=WIDTH)
        for values in (rows[0], rows[1], np.array(data.draw(others))):
            measured = contributions.of(values.reshape(1, -1))[0]
            np.testing.assert_allclose(measured, shapley(arrays, values), rtol=1e-9, atol=1e-12)
        assert contributions.expected == pytest.approx(raw_score(arrays, rows[0], set()), rel=1e-12, abs=1e-12)

    def test_contributions_add_up_to_the_score_and_are_zero_for_unused_features(self) -> None:
        arrays, rows = fitted(trees=60, leaves=None)
        contributions = Contributions(arrays)
        measured = contributions.of(rows)
        score = PackedScorer(arrays).scores(rows)
        raw = np.log(score / (1 - score))
        np.testing.assert_allclose(measured.sum(axis=1) + contributions.expected, raw, rtol=1e-9)
        assert not measured[:, -1].any()

    def test_equal_features_have_equal_contributions(self) -> None:
        """For `x0 and x1`, in whichever order the tree tests them."""
        arrays: Arrays = {
            "format": np.array(1),
            "features": np.array(2),
            "baseline": np.array(0.5),
            "finite": np.array(False),
            "roots": np.array([0], np.uint32),
            "feature": np.array([0, 0, 1, 0, 0], np.uint32),
            "threshold": np.array([0.5, 0.0, 0.5, 0.0, 8.0]),
            "left": np.array([1, 0, 3, 0, 0], np.uint32),
            "missing": np.zeros(5, bool),
            "cover": np.array([4, 2, 2, 1, 1], np.uint32),
        }
        PackedScorer(arrays)
        assert Contributions(arrays).of(np.array([[1.0, 1.0]])).tolist() == [[3.0, 3.0]]
        first, second = Contributions(arrays).of(np.array([[0.0, 1.0], [1.0, 0.0]]))
        assert first.tolist() == second[::-1].tolist()

    def test_contributions_do_not_depend_on_the_other_rows(self) -> None:
        arrays, rows = fitted()
        contributions = Contributions(arrays)
        together = contributions.of(rows)
        assert all((contributions.of(rows[i : i + 1])[0] == together[i]).all() for i in range(len(rows)))

    def test_a_model_of_single_leaves_has_no_contributions(self) -> None:
        arrays, rows = fitted(trees=1)
        leaf: Arrays = {name: values[:1].copy() if values.ndim else values for name, values in arrays.items()} | {
            "left": np.zeros(1, np.uint32),
            "feature": np.zeros(1, np.uint32),
        }
        PackedScorer(leaf)
        assert not Contributions(leaf).of(rows).any()

    def test_rows_of_another_width_are_refused(self) -> None:
        with pytest.raises(ValueError, match="expected"):
            Contributions(fitted()[0]).of(np.zeros((1, WIDTH + 1)))


@pytest.mark.parametrize(("place", "value"), [(0, 7), (1, 0), (2, 2**32 - 1)])
def test_counts_of_training_rows_that_do_not_add_up_are_refused(place: int, value: int) -> None:
    arrays, _ = fitted()
    arrays[COVER][place] = value
    with pytest.raises(UnusableScorer, match="do not add up"):
        PackedScorer(arrays)


def test_a_model_without_counts_scores_but_gives_no_reasons() -> None:
    arrays, rows = fitted()
    scores = PackedScorer(arrays).scores(rows)
    del arrays[COVER]
    again = read_arrays(write_arrays(arrays))
    assert COVER not in again
    assert PackedScorer(again).scores(rows).tolist() == scores.tolist()


class TestDecisions:
    def test_a_flagged_transaction_keeps_its_reasons(self, tmp_path: Path) -> None:
        home = explained_home(tmp_path)
        transaction = row(CONTRACT, transaction_id="large", amount=900)
        with TestClient(create_app(settings(tmp_path))) as client:
            first = client.post("/v1/score", json=transaction).json()
            assert (first["decision"], first["reasons"][0]["text"]) == ("fraud", "amount 900.00")
            assert 1 <= len(first["reasons"]) <= 3
            weights = [reason["weight"] for reason in first["reasons"]]
            assert weights == sorted(weights, reverse=True)
            legit = client.post("/v1/score", json=row(CONTRACT, transaction_id="small", amount=2.5)).json()
            assert (legit["decision"], legit["reasons"]) == ("legit", [])
        promote(home, publish(home, seed=1))  # a model that explains nothing
        with TestClient(create_app(settings(tmp_path))) as client:
            again = client.post("/v1/score", json=transaction).json()
            assert again == first | {"repeated": True}
            other = client.post("/v1/score", json=row(CONTRACT, transaction_id="other", amount=900)).json()
            assert (other["decision"], other["reasons"]) == ("fraud", None)
            decisions = client.get("/v1/decisions").json()["decisions"]
            assert [decision["reasons"] for decision in decisions] == [None, [], first["reasons"]]

    def test_contributions_add_up_to_the_score(self, tmp_path: Path) -> None:
        registry = Registry(explained_home(tmp_path))
        model = load_model(registry, registry.names()[0], CONTRACT)
        assert model.explain is not None
        rows = np.random.default_rng(1).lognormal(3.0, 1.0, (20, len(NAMES)))
        logits = np.log(model.predict(rows) / (1 - model.predict(rows)))
        rest = logits - model.explain(rows).sum(axis=1)
        np.testing.assert_allclose(rest, rest[0])
