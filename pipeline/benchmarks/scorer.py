"""The measured claims of the README, made again on the machine at hand."""

import os
import statistics
import time
from collections.abc import Callable
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from pipeline.estimators.predict import scores
from pipeline.estimators.trees import Hyperparameters, build
from pipeline.scorer.contributions import Contributions
from pipeline.scorer.forest import PackedScorer, compiled_walk, save
from pipeline.scorer.packers import pack
from pipeline.training.fit import library_versions
from processing.arrays import Floats
from processing.contract import Contract
from processing.contracts import reader as contracts
from processing.features.feature_set import FeatureSet, minor_units
from processing.features.windows import sawtooth
from processing.synthetic.synthesize import synthesize

ROWS = (1, 1_000, 100_000)
SAMPLES = 1_000
START = date(2026, 3, 1)
SPENT_SECONDS = 0.05  # one measurement repeats a quick call for about so long


def benchmark_scorer(*, days: int = 40, customers: int = 4_000, repetitions: int = 7) -> dict[str, Any]:
    """The packed scorer beside scikit-learn's `predict_proba`, on one thread, in microseconds a call.

    The model has the product's default hyperparameters and is fitted to synthetic transactions. For every number of
    rows both score the same rows `repetitions` times, in turns, so that a disturbance from outside meets both.
    Gives {"model": {...}, "compile_seconds", "results": [{"rows", "packed_us", "sklearn_us", "ratio"}, ...],
    "reasons": {"row_us", "compile_seconds"}, "maximum_difference", "machine": {...}}: medians, and the median of the
    pairs' ratios (how many times quicker the packed one is). The difference is the greatest over all rows; 0 is what
    is claimed. `compile_seconds` is the processor's time to import Numba and to compile the walk, or to fetch it from
    Numba's cache; so is that of `reasons`, for the contributions of every feature to the score of a row.
    """
    rows, fraud = _synthetic(days, customers)
    with threadpool_limits(1):
        model = build(Hyperparameters()).fit(rows, fraud)
        began = time.process_time()
        compiled_walk()
        compiled = time.process_time() - began
        packed = pack(model)
        if packed is None:
            raise RuntimeError("the product's own model cannot be packed")
        scorer = PackedScorer(packed)
        results = [_compare(scorer, model, _samples(rows, count), repetitions) for count in ROWS]
        began = time.process_time()
        contributions = Contributions(packed)
        explained = time.process_time() - began
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
            "kilobytes": round(len(save(packed)) / 1000),
            "fitted_rows": len(rows),
        },
        "compile_seconds": round(compiled, 2),
        "results": results,
        "reasons": {"row_us": round(reasons, 2), "compile_seconds": round(explained, 2)},
        "maximum_difference": difference,
        "machine": {"cores": os.cpu_count(), **library_versions()},
    }


def table(result: dict[str, Any]) -> str:
    """What `benchmark_scorer` gave, for people."""
    model = result["model"]
    lines = [
        f"{model['trees']} trees, {model['nodes']:,} nodes, {model['features']} features; microseconds, one thread",
        f"{'rows':>8} {'packed':>12} {'scikit-learn':>13} {'ratio':>7}",
    ]
    for found in result["results"]:
        lines.append(
            f"{found['rows']:>8,} {found['packed_us']:>12,.1f} {found['sklearn_us']:>13,.1f} {found['ratio']:>6,.1f}x"
        )
    lines.append(f"reasons: {result['reasons']['row_us']:,.1f} for the contributions to one row's score")
    return "\n".join([*lines, f"greatest difference between their scores: {result['maximum_difference']:g}"])


def _synthetic(days: int, customers: int) -> tuple[Floats, NDArray[np.int8]]:
    """Features and labels of synthetic transactions."""
    return features_of(synthesize(START, days, customers), contracts.load("transactions"))


def features_of(made: pa.Table, contract: Contract) -> tuple[Floats, NDArray[np.int8]]:
    """Features and labels of transactions, as the feature job computes them."""
    features = FeatureSet(contract)
    time_us = made.column("event_time").cast("int64").to_numpy()
    amount = minor_units(made.column("amount").to_numpy(), contract)
    fraud = made.column("is_fraud").to_numpy().astype(np.int64)
    states = []
    for entity in contract.entities:
        _, codes = np.unique(made.column(entity.column).to_numpy(), return_inverse=True)
        states.append(sawtooth(features.windows[entity.name], codes.astype(np.int64), time_us, amount, fraud))
    values = features.compute(amount, time_us, np.column_stack(states), features.encode_table(made))
    return values, fraud.astype(np.int8)


def _samples(rows: Floats, count: int) -> list[Floats]:
    """Up to `SAMPLES` different batches of rows: on one and the same the processor would learn every branch."""
    places = np.random.default_rng(0).integers(len(rows), size=(max(1, min(SAMPLES, len(rows) // count)), count))
    return [rows[place] for place in places]


def _compare(scorer: PackedScorer, model: Any, samples: list[Floats], repetitions: int) -> dict[str, Any]:
    ways = (scorer.scores, lambda rows: scores(model, rows))
    calls = [_calls(way, samples) for way in ways]
    pairs = [[_microseconds(way, samples, n) for way, n in zip(ways, calls, strict=True)] for _ in range(repetitions)]
    packed, sklearn = zip(*pairs, strict=True)
    return {
        "rows": len(samples[0]),
        "packed_us": round(statistics.median(packed), 2),
        "sklearn_us": round(statistics.median(sklearn), 2),
        "ratio": round(statistics.median(slow / quick for quick, slow in pairs), 2),
    }


def _calls(way: Callable[[Floats], Floats], samples: list[Floats]) -> int:
    """How often to call what is quick, so that the clock can measure it."""
    return max(1, round(SPENT_SECONDS * 1e6 / _microseconds(way, samples, 1)))


def _microseconds(way: Callable[[Floats], Floats], samples: list[Floats], calls: int) -> float:
    """What one call takes."""
    began = time.perf_counter()
    for i in range(calls):
        way(samples[i % len(samples)])
    return (time.perf_counter() - began) / calls * 1e6
