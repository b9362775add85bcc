"""Packed trees score as scikit-learn does, to the last bit; anything that is not a packed model is refused."""

import functools
import io
import json
import re
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import joblib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from places import ROOT
from serving_home import begin, promote, publish, row, trained
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from pipeline.benchmarks.scorer import benchmark_scorer, scorer_table
from pipeline.estimators.binner import TailBinner
from pipeline.registry.registry import CorruptModel, Registry
from pipeline.scorer import forest as forest_module
from pipeline.scorer.arrays_file import UnusableScorer, read_arrays, write_arrays
from pipeline.scorer.forest import PackedScorer, compiled_walk
from pipeline.scorer.packers import choose
from pipeline.scorer.packers.choose import pack
from pipeline.scorer.packing import pack_and_prove
from pipeline.scorer.proof import difference, edge_cases
from processing.arrays import Floats
from processing.contracts import reader as contracts
from processing.features.feature_set import FeatureSet
from serving.decision.loaded_model import CannotServe, load_model

Arrays = dict[str, NDArray[Any]]

CONTRACT = contracts.load("transactions")
WIDTH = len(FeatureSet(CONTRACT).names)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """On busy cores, threads that wait for each other make fitting a small model a hundred times slower."""
    with threadpool_limits(1):
        yield


def fitted(
    seed: int = 0, rows: int = 200, *, binned: bool = True, missing: float = 0.1, steps: int = 0, **options: Any
) -> tuple[Any, Floats]:
    """A small model and the rows it was fitted to. `steps` rounds the values so that many are equal."""
    random = np.random.default_rng(seed)
    x = random.lognormal(0.0, 2.0, (rows, 3)) * random.choice([-1.0, 1.0], (rows, 3))
    x = np.round(x * steps) / steps if steps else x
    y = (x[:, 0] + random.normal(size=rows) > np.median(x[:, 0])).astype(int)
    y[:2] = (0, 1)
    missing_cells = random.random(x.shape) < missing
    missing_cells[0] = False  # scikit-learn cannot fit a feature without a single value
    x[missing_cells] = np.nan
    defaults = {"max_iter": 5, "min_samples_leaf": 1, "early_stopping": False, "random_state": seed}
    trees = HistGradientBoostingClassifier(**{**defaults, **options})
    model = Pipeline([("bins", TailBinner()), ("trees", trees)]) if binned else trees
    return model.fit(x, y), x


def packed(model: Any) -> PackedScorer:
    arrays = pack(model)
    assert arrays is not None
    return PackedScorer.from_bytes(write_arrays(arrays))


@functools.cache
def small() -> bytes:
    arrays = pack(fitted(rows=40, max_iter=2)[0])
    assert arrays is not None
    return write_arrays(arrays)


def same_bits(scorer: PackedScorer, model: Any, rows: Floats) -> bool:
    expected = np.ascontiguousarray(model.predict_proba(rows)[:, 1])
    one_by_one = np.array([scorer.score(row.reshape(1, -1)) for row in rows[:50]])
    scores = scorer.scores(rows)
    return scores.tobytes() == expected.tobytes() and one_by_one.tobytes() == expected[:50].tobytes()


models = st.builds(
    fitted,
    st.integers(0, 10_000),
    st.integers(2, 400),
    binned=st.booleans(),
    missing=st.sampled_from([0.0, 0.1, 0.9]),
    steps=st.sampled_from([0, 1, 4]),
    max_iter=st.integers(1, 12),
    max_leaf_nodes=st.sampled_from([2, 8, 31, None]),
    max_depth=st.sampled_from([None, 1, 6]),
    learning_rate=st.sampled_from([0.05, 1.0]),
    l2_regularization=st.sampled_from([0.0, 10.0]),
    max_bins=st.sampled_from([4, 255]),
)
any_numbers = arrays(np.float64, st.tuples(st.integers(1, 20), st.just(3)), elements=st.floats(allow_infinity=False))


@pytest.mark.slow
@settings(max_examples=80, deadline=None)
@given(models, any_numbers)
def test_packed_scores_equal_those_of_scikit_learn_to_the_last_bit(
    model_and_rows: tuple[Any, Floats], more: Floats
) -> None:
    model, rows = model_and_rows
    scorer = packed(model)
    assert difference(scorer, model, rows) == ""
    with np.errstate(all="ignore"):
        assert same_bits(scorer, model, np.concatenate((rows, more)))


@pytest.mark.parametrize("binned", [False, True])
def test_infinities_are_scored_or_refused_as_scikit_learn_does(binned: bool) -> None:
    model, _ = fitted(binned=binned)
    scorer, rows = packed(model), np.array([[0.0, 1.0, 2.0], [np.inf, -np.inf, 0.0], [-np.inf, np.nan, np.inf]])
    if not binned:
        assert same_bits(scorer, model, rows)
        return
    for score in (model.predict_proba, scorer.scores):
        with pytest.raises(ValueError, match="infinity"):
            score(rows)
    assert scorer.scores(rows[:1]) == model.predict_proba(rows[:1])[0, 1]


def test_a_split_between_numbers_and_missing_values_survives_packing() -> None:
    x = np.array([[1.0], [2.0], [3.0], [np.nan], [np.nan], [np.nan]] * 20)
    for binned in (False, True):
        trees = HistGradientBoostingClassifier(max_iter=3, min_samples_leaf=1, max_leaf_nodes=2)
        model = Pipeline([("bins", TailBinner()), ("trees", trees)] if binned else [("trees", trees)])
        model.fit(x, np.isnan(x[:, 0]))
        assert difference(packed(model), model, x) == ""
        low, missing = packed(model).scores(np.array([[1e300], [np.nan]]))
        assert low < missing


def test_the_edge_cases_contain_every_threshold_and_its_neighbours() -> None:
    model, rows = fitted(binned=False)
    scorer = packed(model)
    cases = edge_cases(scorer, rows, with_infinities=True)
    for j in range(3):
        own = scorer.thresholds(j)
        assert len(own)
        expected = {*own, *np.nextafter(own, np.inf), *np.nextafter(own, -np.inf), np.inf, -np.inf, 0.0}
        assert expected <= set(cases[:, j])
        assert np.isnan(cases[:, j]).any()


def test_a_difference_of_one_bit_is_reported_with_its_row() -> None:
    model, rows = fitted()
    arrays = pack(model)
    assert arrays is not None
    arrays["baseline"] = np.nextafter(arrays["baseline"], 9.0)
    assert re.match(
        r"row \d+ scores 0\.\d+ packed and 0\.\d+ by the model itself: \[",
        difference(PackedScorer(arrays), model, rows),
    )


def test_a_threshold_off_by_one_bit_is_detected_without_any_rows() -> None:
    model, _ = fitted(binned=False)
    arrays = pack(model)
    assert arrays is not None
    node = np.flatnonzero(arrays["left"])[0]
    arrays["threshold"][node] = np.nextafter(arrays["threshold"][node], np.inf)
    assert "edge case" in difference(PackedScorer(arrays), model, np.zeros((0, 3)))


def test_a_model_with_another_loss_is_not_packed() -> None:
    model, rows = fitted()
    model[-1]._loss = type("Other", (type(model[-1]._loss),), {})()
    assert pack(model) is None
    packing = pack_and_prove(model, rows)
    assert packing.scorer is None
    assert "cannot be packed" in packing.reason


def unsupported() -> dict[str, Any]:
    random = np.random.default_rng(0)
    x, y = random.normal(size=(60, 2)), random.integers(0, 3, 60)
    whole, two = np.round(np.abs(x)), y > 0
    boosted = HistGradientBoostingClassifier(max_iter=2)
    return {
        "a random forest": RandomForestClassifier(3).fit(x, two),
        "three classes": HistGradientBoostingClassifier(max_iter=2).fit(x, y),
        "categorical features": HistGradientBoostingClassifier(max_iter=2, categorical_features=[0]).fit(whole, two),
        "a preceding scaler": Pipeline([("scale", StandardScaler()), ("trees", boosted)]).fit(x, two),
        "not a model": {"trees": 3},
    }


@pytest.mark.parametrize(("what", "model"), unsupported().items())
def test_an_unsupported_model_is_not_packed(what: str, model: Any) -> None:
    assert pack(model) is None, what


def test_another_library_is_packed_by_its_own_module(monkeypatch: pytest.MonkeyPatch) -> None:
    """A packer for another library takes one module and one line in the table."""
    module = ModuleType("packs_other")
    expected = {"format": np.array(1)}
    module.pack = lambda model: expected  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "packs_other", module)
    monkeypatch.setitem(choose.PACKERS, "other", "packs_other")
    model = type("Boosted", (), {"__module__": "other.trees"})()
    assert choose.pack(model) is expected
    assert choose.pack(Pipeline([("bins", TailBinner()), ("trees", model)])) is expected


def changed(name: str, place: int | tuple[()], value: Any) -> Callable[[Arrays], None]:
    def change(arrays: Arrays) -> None:
        arrays[name][place] = value

    return change


def replaced(name: str, new: Callable[[NDArray[Any]], Any]) -> Callable[[Arrays], None]:
    def change(arrays: Arrays) -> None:
        arrays[name] = np.asarray(new(arrays[name]))

    return change


DAMAGES = [
    (lambda arrays: arrays.pop("missing"), "lacks 'missing'"),
    (changed("format", (), 2), "format 2"),
    (replaced("feature", lambda a: a.astype(np.int64)), "'feature' is 1-dimensional int64"),
    (replaced("threshold", lambda a: a.reshape(1, -1)), "2-dimensional"),
    (replaced("threshold", lambda a: a[:-1]), "differ in length"),
    (replaced("missing", lambda a: a[:0]), "differ in length"),
    (changed("left", 1, 0), "a node is missing"),
    (changed("left", 0, 2**32 - 1), "a node is missing"),
    (changed("left", 3, 1), "before its parent"),
    (changed("roots", 0, 1), "a node is missing"),
    (changed("roots", 1, 2**31), "a node is missing"),
    (changed("feature", 0, 3), "a row of 3 does not have"),
    (changed("features", (), -1), "does not have"),
    (changed("threshold", 0, np.nan), "is NaN"),
    (changed("baseline", (), np.nan), "is NaN"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGES)
def test_damaged_arrays_are_refused(damage: Callable[[Arrays], None], message: str) -> None:
    arrays = read_arrays(small())
    damage(arrays)
    with pytest.raises(UnusableScorer, match=message):
        PackedScorer.from_bytes(write_arrays(arrays))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_the_walk_ends_and_stays_inside_the_arrays_for_any_indices(data: st.DataObject) -> None:
    arrays = read_arrays(small())
    for name in data.draw(st.lists(st.sampled_from(["roots", "feature", "left"]), min_size=1, max_size=3)):
        place = data.draw(st.integers(0, len(arrays[name]) - 1))
        arrays[name][place] = data.draw(st.integers(0, len(arrays["left"])) | st.integers(0, 2**32 - 1))
    try:
        scorer = PackedScorer(arrays)
    except UnusableScorer:
        return
    assert 0.0 <= scorer.score(np.zeros((1, 3))) <= 1.0


def with_objects() -> bytes:
    file = io.BytesIO()
    np.savez(file, left=np.array([{}], object))
    return file.getvalue()


def compressed() -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, left=np.zeros(10**6))
    return file.getvalue()


def huge() -> bytes:
    """A small file whose header claims a petabyte of data."""
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (125000000000000,), }"
    header = header.ljust(117) + b"\n"
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("left.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    return file.getvalue()


@pytest.mark.parametrize("data", [b"", b"no archive", with_objects(), compressed(), huge()])
def test_files_that_are_not_a_packed_model_are_refused(data: bytes) -> None:
    with pytest.raises(UnusableScorer, match=r"scorer\.npz"):
        PackedScorer.from_bytes(data)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_file_with_damaged_bytes_is_refused_or_scores(data: st.DataObject) -> None:
    file = bytearray(small())
    for _ in range(data.draw(st.integers(1, 4))):
        file[data.draw(st.integers(0, len(file) - 1))] = data.draw(st.integers(0, 255))
    try:
        scorer = PackedScorer.from_bytes(bytes(file[: data.draw(st.integers(0, len(file)))]) or bytes(file))
    except UnusableScorer:
        return
    if scorer.features < 1_000:
        scorer.scores(np.zeros((2, scorer.features)))


def test_packing_the_same_model_twice_writes_the_same_file() -> None:
    first, second = (pack(fitted(3)[0]) for _ in range(2))
    assert first is not None
    assert second is not None
    assert write_arrays(first) == write_arrays(second)
    assert {name: a.tobytes() for name, a in read_arrays(write_arrays(first)).items()} == {
        n: a.tobytes() for n, a in first.items()
    }


def test_rows_of_the_wrong_shape_are_refused_and_an_empty_batch_is_scored() -> None:
    scorer = packed(fitted()[0])
    for shape in ((3,), (1, 2), (1, 4), (1, 3, 1)):
        with pytest.raises(ValueError, match="expected"):
            scorer.scores(np.zeros(shape))
    assert scorer.scores(np.zeros((0, 3))).shape == (0,)


def test_rows_in_any_memory_layout_have_the_same_scores() -> None:
    model, rows = fitted()
    scorer = packed(model)
    expected = scorer.scores(rows)
    read_only = rows.copy()
    read_only.flags.writeable = False
    for same in (np.asfortranarray(rows), np.repeat(rows, 2, axis=0)[::2], read_only):
        assert np.array_equal(scorer.scores(same), expected)


def test_changing_the_arrays_afterwards_does_not_change_the_scorer() -> None:
    model, rows = fitted()
    arrays = pack(model)
    assert arrays is not None
    scorer = PackedScorer(arrays)
    arrays["left"][:] = 2**31
    assert same_bits(scorer, model, rows)


def test_threads_can_score_concurrently() -> None:
    model, rows = fitted(rows=2_000, max_iter=50)
    scorer, expected = packed(model), model.predict_proba(rows)[:, 1]
    agreements: list[bool] = []

    def score() -> None:
        agreements.extend(np.array_equal(scorer.scores(rows), expected) for _ in range(20))

    threads = [threading.Thread(target=score) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert agreements == [True] * 80


def test_numba_compiles_without_a_folder_for_its_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    from numba.core.caching import CompileResultCacheImpl

    monkeypatch.setattr(CompileResultCacheImpl, "_locator_classes", [])
    model, rows = fitted()
    monkeypatch.setattr(forest_module, "compiled_walk", compiled_walk.__wrapped__)
    assert same_bits(packed(model), model, rows)


def published(folder: Path, **manifest: Any) -> tuple[Registry, str]:
    """A home that serves a version with packed trees."""
    home, model = begin(folder), joblib.load(io.BytesIO(trained(CONTRACT.name, 0)))
    data = pack_and_prove(model, np.zeros((0, WIDTH))).scorer
    assert data is not None
    version = publish(home, more={"scorer.npz": data}, **manifest)
    promote(home, version)
    return Registry(home), version


@pytest.mark.slow
def test_serving_prefers_packed_trees_and_needs_no_scikit_learn_for_them(tmp_path: Path) -> None:
    published(tmp_path, libraries={"scikit-learn": "0.24.2"})  # the pickle of another version could not be loaded
    script = """
import json, sys
from fastapi.testclient import TestClient
from serving.app import create_app
from serving.settings import read_settings

with TestClient(create_app(read_settings(home=sys.argv[1], port=0)), base_url="http://127.0.0.1") as client:
    reply = client.post("/v1/score", json=json.loads(sys.argv[2]))
loaded = [name for name in ("sklearn", "joblib") if name in sys.modules]
print(json.dumps({"status": reply.status_code, "score": reply.json()["score"], "loaded": loaded}))
"""
    process = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path), json.dumps(row(CONTRACT))],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    output = json.loads(process.stdout.splitlines()[-1])
    assert (output["status"], output["loaded"]) == (200, [])
    assert 0.0 <= output["score"] <= 1.0


def test_packed_and_joblib_models_serve_the_same_scores(tmp_path: Path) -> None:
    registry, version = published(tmp_path)
    quick = load_model(registry, version, CONTRACT)
    slow = load_model(registry, promote(registry.home, publish(registry.home)), CONTRACT)
    rows = np.random.default_rng(1).lognormal(3.0, 1.0, (50, WIDTH))
    assert [quick.score(r.reshape(1, -1)) for r in rows] == [slow.score(r.reshape(1, -1)) for r in rows]


def test_damaged_packed_trees_are_refused_before_they_are_parsed(tmp_path: Path) -> None:
    registry, version = published(tmp_path)
    registry.home.write(f"models/{version}/scorer.npz", b"other")
    with pytest.raises(CorruptModel, match=r"scorer\.npz is not the published file"):
        load_model(registry, version, CONTRACT)


@pytest.mark.parametrize("other_features", [True, False])
def test_unusable_packed_trees_are_refused(tmp_path: Path, other_features: bool) -> None:
    home = begin(tmp_path)
    version = publish(home, more={"scorer.npz": small() if other_features else b"published damaged"})
    with pytest.raises(CannotServe, match=version):
        load_model(Registry(home), version, CONTRACT)


def test_a_version_without_packed_trees_can_serve(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(100, WIDTH))
    forest = RandomForestClassifier(5, random_state=0).fit(x, x[:, 0] > 0)
    file = io.BytesIO()
    joblib.dump(forest, file)
    home = begin(tmp_path)
    model = load_model(Registry(home), promote(home, publish(home, file=file.getvalue())), CONTRACT)
    assert [model.score(r.reshape(1, -1)) for r in x[:9]] == forest.predict_proba(x[:9])[:, 1].tolist()


@pytest.mark.slow
def test_the_benchmark_finds_no_difference() -> None:
    result = benchmark_scorer(days=3, customers=2_000, repetitions=1)
    assert result["maximum_difference"] == 0.0
    assert [each["rows"] for each in result["results"]] == [1, 1_000, 100_000]
    assert result["results"][0]["ratio"] > 20
    assert "difference" in scorer_table(result)
    assert json.loads(json.dumps(result)) == result
