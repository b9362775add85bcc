"""The Train step: `python3 -m pipeline.steps.train`, under the SageMaker container contract.

Reads the channels `train` (a folder of Parquet files, see `pipeline.data.dataset`) and `contract` (contract.toml) and
the job's hyperparameters; leaves `model.joblib` and `training.json` in the model folder, and beside them `scorer.npz`,
the model as arrays, if those score as it does, bit for bit (see `pipeline.scorer.packers`). Arrays are no code, so the
steps that follow measure and serve them without running anything that training made.

The threshold must be chosen on rows the model has not seen, and later ones, as in use. So a first model is fitted
without the last days of the training set, which serve as validation, and the threshold is the cheapest on those.
The model that is kept is then fitted again on all rows with the same hyperparameters: fraud changes, and the latest
days are worth more than the ones before. The threshold is carried over. That is sound as far as both models
give the same scores to the same risk: they differ by a few days of data, and neither weights classes, so both
estimate the same probability. The step that follows measures the carried threshold on test rows that neither saw.
"""

import json
import os
import platform
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from pipeline.data.dataset import Dataset
from pipeline.estimators.predict import scores
from pipeline.estimators.trees import Hyperparameters, build
from pipeline.evaluation import threshold
from pipeline.evaluation.metrics import measure
from pipeline.evaluation.reference import strengths
from pipeline.registry.needs import needs_of
from pipeline.registry.registry import MODEL_FILE
from pipeline.scorer.forest import SCORER_FILE
from pipeline.scorer.packers import packed_file
from processing.contract import Contract
from processing.errors import BadInput
from processing.features.feature_set import FeatureSet
from processing.features.windows import DAY_US

TRAINING_FILE = "training.json"
PROOF_ROWS = 100_000
LIBRARIES = ("scikit-learn", "numpy", "scipy", "joblib", "pyarrow")


@dataclass(frozen=True)
class Split:
    """Of rows in the order of time: the first model is fitted on those before place `fit_end`; validation begins
    at place `start`. Between them lie `gap_days`. `how` says it in words."""

    fit_end: int
    start: int
    gap_days: int
    how: str


def save(folder: Path, model: Any, training: Mapping[str, Any], rows: Dataset) -> None:
    """Write what the step delivers; the scorer is proven on the latest of the rows and on edge cases."""
    folder.mkdir(parents=True, exist_ok=True)
    packed, why = packed_file(model, rows.X[-PROOF_ROWS:])
    kind = "packed" if packed else "joblib"
    print(f"scorer {kind}: {why}", flush=True)
    joblib.dump(model, folder / MODEL_FILE)
    if packed:
        (folder / SCORER_FILE).write_bytes(packed)
    record = {**training, **needs_of(model), "scorer": kind, "scorer_reason": why}
    (folder / TRAINING_FILE).write_text(json.dumps(record, indent=2), encoding="utf-8")
    print(f"wrote {MODEL_FILE} and {TRAINING_FILE} to {folder}", flush=True)


def train(
    rows: Dataset, contract: Contract, hyperparameters: Hyperparameters, alerts_per_day: int = 0
) -> tuple[Any, dict[str, Any]]:
    """The model fitted on all rows, and the record of its training (training.json).

    The threshold is the cheapest on validation rows, or, with `alerts_per_day`, the lowest within that budget.
    Raises BadInput if the rows cannot be split so that both parts hold frauds and honest transactions.
    """
    part = split(rows, contract)
    with ThreadPoolExecutor(2) as together:  # one fit gains little from a second core, two fits gain all of it
        choosing = together.submit(_fit, rows.part(slice(0, part.fit_end)), hyperparameters, "to choose the threshold")
        keeping = together.submit(_fit, rows, hyperparameters, "to keep")
    first, model = choosing.result(), keeping.result()
    later = rows.part(slice(part.start, None))
    score = scores(first, later.X)
    choice, method = threshold.choose(later.y, later.amount, score, later.day, alerts_per_day, contract)
    validation = measure(later, score, choice.threshold, contract)
    print(
        f"threshold {choice.threshold:.4g} chosen on {part.how}: average precision "
        f"{validation['average_precision']:.3f}, cost {choice.cost:.2f} instead of {choice.cost_of_no_alerts:.2f}",
        flush=True,
    )
    features = FeatureSet(contract)
    return model, {
        "contract": {"name": contract.name, "digest": contract.digest},
        "hyperparameters": asdict(hyperparameters),
        "features": list(features.names),
        "dtypes": features.dtypes,
        "threshold": choice.threshold,
        "threshold_choice": {
            "method": method,
            "rows": part.how,
            "validation_days": _window(later.day),
            "gap_days": part.gap_days,
            "cost": choice.cost,
            "cost_of_no_alerts": choice.cost_of_no_alerts,
            "alerts": choice.alerts,
        },
        "window": _window(rows.day),
        "rows": rows.rows,
        "frauds": rows.frauds,
        "data_digest": rows.digest,
        "strengths": strengths(rows, features.names),
        "validation": validation,
        "libraries": library_versions(),
    }


def split(rows: Dataset, contract: Contract) -> Split:
    """Validation is the end of the training set: a fifth of its days, at most as many as a test has.

    The label delay before it is left out of the fit, as it is between training and test, unless less than half of
    the days would remain. If a part then lacks frauds or honest rows, validation begins earlier, up to half of the
    days. A set of a single day is divided by rows. Raises BadInput if no such split leaves both in both parts.
    """
    for attempt in _splits(rows, contract):
        if rows.part(slice(0, attempt.fit_end)).learnable and rows.part(slice(attempt.start, None)).learnable:
            return attempt
    raise BadInput(
        f"{rows.frauds} frauds in {rows.rows} rows, {days_of(rows.day)}: too few to fit a model and to choose a "
        "threshold on later rows; train on a longer time"
    )


def _splits(rows: Dataset, contract: Contract) -> Iterator[Split]:
    last_day, gap = int(rows.day[-1]), contract.label_delay_days
    days = last_day - int(rows.day[0]) + 1
    if days == 1:
        for share in (0.2, 0.3, 0.4, 0.5):
            count = round(rows.rows * share)
            yield Split(rows.rows - count, rows.rows - count, 0, f"the last {count} rows of the day")
        return
    fewest = max(1, min(contract.test_days, days // 5))
    for count in range(fewest, max(fewest, days // 2) + 1):
        start = int(np.searchsorted(rows.day, last_day - count + 1))
        how = f"the last {count} of {days} days"
        if 2 * (days - count - gap) >= days:
            yield Split(int(np.searchsorted(rows.day, last_day - count - gap + 1)), start, gap, how)
        yield Split(start, start, 0, how)


def fit(rows: Dataset, hyperparameters: Hyperparameters) -> Any:
    """The model, fitted on all rows given, by half of the machine's cores: two fits can go on at once."""
    with threadpool_limits(max(1, (os.cpu_count() or 1) // 2), user_api="openmp"):  # of this thread alone
        return build(hyperparameters).fit(rows.X, rows.y)


def library_versions() -> dict[str, str]:
    """The versions of Python and the libraries a model file depends on."""
    return {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}}


def _fit(rows: Dataset, hyperparameters: Hyperparameters, what_for: str) -> Any:
    started = time.monotonic()
    model = fit(rows, hyperparameters)
    print(f"fitted {rows.rows} rows {what_for} in {time.monotonic() - started:.1f} s", flush=True)
    return model


def _window(day: NDArray[np.int64]) -> dict[str, str]:
    first, last = (datetime.fromtimestamp(int(d) * DAY_US / 1e6, UTC).date().isoformat() for d in (day[0], day[-1]))
    return {"first_day": first, "last_day": last}


def days_of(day: NDArray[np.int64]) -> str:
    window = _window(day)
    return f"{window['first_day']} to {window['last_day']}"
