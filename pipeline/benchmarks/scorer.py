"""The speed of the packed scorer and of scikit-learn, measured on this machine."""

import statistics
import time
from collections.abc import Callable
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from pipeline.benchmarks.figures import machine
from pipeline.estimators.factory import build_estimator
from pipeline.estimators.hyperparameters import Hyperparameters
from pipeline.estimators.predict import scores
from pipeline.scorer.arrays_file import write_arrays
from pipeline.scorer.contributions import Contributions
from pipeline.scorer.forest import PackedScorer, compiled_walk
from pipeline.scorer.packers.choose import pack
from processing.arrays import Floats
from processing.contract import Contract
from processing.contracts import reader as contracts
from processing.features.entity_keys import named_keys
from processing.features.feature_set import FeatureSet, minor_units
from processing.features.table_features import compute_rows, window_states
from processing.synthetic.synthesize import synthesize

ROWS = (1, 1_000, 100_000)
SAMPLES = 1_000
START = date(2026, 3, 1)
MEASUREMENT_SECONDS = 0.05  # a measurement repeats a fast call for about this long


def benchmark_scorer(*, days: int = 40, customers: int = 4_000, repetitions: int = 7) -> dict[str, Any]:
    """Time the packed scorer and scikit-learn's `predict_proba`, on one thread, in microseconds per call.

    The model has the default hyperparameters and is fitted to synthetic transactions. For each number of rows both
    score the same rows `repetitions` times, in turns, so that outside disturbances affect both.
    Returns {"model": {...}, "compile_seconds", "results": [{"rows", "packed_us", "sklearn_us", "ratio"}, ...],
    "reasons": {"row_us", "compile_seconds"}, "maximum_difference", "machine": {...}}: medians, and the median ratio of
    the pairs (how many times faster the packed scorer is). "maximum_difference" is between their scores, over all
    rows, and should be 0. "compile_seconds" is the CPU time to import Numba and to compile the code, or to load it from
    Numba's cache: of the scorer, and in "reasons" of each feature's contribution to the score.
    """
    rows, fraud = _synthetic(days, customers)
    with threadpool_limits(1):
        model = build_estimator(Hyperparameters()).fit(rows, fraud)
        began = time.process_time()
        compiled_walk()
        compiled = time.process_time() - began
        packed = pack(model)
        if packed is None:
            raise RuntimeError("the default model cannot be packed")
        scorer = PackedScorer(packed)
        results = [_compare(scorer, model, _samples(rows, count), repetitions) for count in ROWS]
        began = time.process_time()
        contributions = Contributions(packed)
        reasons_compiled = time.process_time() - began
        one = _samples(rows, 1)
        reasons = statistics.median(
            _microseconds(contributions.of, one, _calls(contributions.of, one)) for _ in range(repetitions)
        )
        difference = float(np.abs(scorer.scores(rows) - scores(model, rows)).max())
    return {
        "model": {
            "trees": scorer.trees,
            "features": scorer.features,
            "nodes": len(packed["left"]),
            "kilobytes": round(len(write_arrays(packed)) / 1000),
            "fitted_rows": len(rows),
        },
        "compile_seconds": round(compiled, 2),
        "results": results,
        "reasons": {"row_us": round(reasons, 2), "compile_seconds": round(reasons_compiled, 2)},
        "maximum_difference": difference,
        "machine": machine(),
    }


def scorer_table(result: dict[str, Any]) -> str:
    """The result of `benchmark_scorer` as lines of text."""
    model = result["model"]
    lines = [
        f"{model['trees']} trees, {model['nodes']:,} nodes, {model['features']} features; microseconds, one thread",
        f"{'rows':>8} {'packed':>12} {'scikit-learn':>13} {'ratio':>7}",
    ]
    for row in result["results"]:
        lines.append(f"{row['rows']:>8,} {row['packed_us']:>12,.1f} {row['sklearn_us']:>13,.1f} {row['ratio']:>6,.1f}x")
    lines.append(f"reasons: {result['reasons']['row_us']:,.1f} for the feature contributions of one row")
    return "\n".join([*lines, f"largest difference between their scores: {result['maximum_difference']:g}"])


def _synthetic(days: int, customers: int) -> tuple[Floats, NDArray[np.int8]]:
    """Features and labels of synthetic transactions."""
    return labelled_features(synthesize(START, days, customers), contracts.load("transactions"))


def labelled_features(transactions: pa.Table, contract: Contract) -> tuple[Floats, NDArray[np.int8]]:
    """Features and labels of transactions, as the feature job computes them."""
    features = FeatureSet(contract)
    names = ("event_time", "is_fraud", *contract.numeric, *contract.categorical)
    columns = {name: transactions.column(name) for name in names}
    columns |= named_keys(contract, {name: transactions.column(name) for name in contract.key_columns})
    rows = pa.table({**columns, "amount_minor": minor_units(transactions.column("amount").to_numpy(), contract)})
    return compute_rows(features, rows, window_states(features, rows)), transactions.column("is_fraud").to_numpy()


def _samples(rows: Floats, count: int) -> list[Floats]:
    """Up to `SAMPLES` different batches of rows; with a single one the CPU would learn to predict every branch."""
    batches = np.random.default_rng(0).integers(len(rows), size=(max(1, min(SAMPLES, len(rows) // count)), count))
    return [rows[batch] for batch in batches]


def _compare(scorer: PackedScorer, model: Any, samples: list[Floats], repetitions: int) -> dict[str, Any]:
    scorers = (scorer.scores, lambda rows: scores(model, rows))
    calls = [_calls(score, samples) for score in scorers]
    pairs = [
        [_microseconds(score, samples, n) for score, n in zip(scorers, calls, strict=True)] for _ in range(repetitions)
    ]
    packed, sklearn = zip(*pairs, strict=True)
    return {
        "rows": len(samples[0]),
        "packed_us": round(statistics.median(packed), 2),
        "sklearn_us": round(statistics.median(sklearn), 2),
        "ratio": round(statistics.median(slow / fast for fast, slow in pairs), 2),
    }


def _calls(score: Callable[[Floats], Floats], samples: list[Floats]) -> int:
    """How often to repeat a fast call so that the clock can measure it."""
    return max(1, round(MEASUREMENT_SECONDS * 1e6 / _microseconds(score, samples, 1)))


def _microseconds(score: Callable[[Floats], Floats], samples: list[Floats], calls: int) -> float:
    """The time of one call."""
    began = time.perf_counter()
    for i in range(calls):
        score(samples[i % len(samples)])
    return (time.perf_counter() - began) / calls * 1e6
