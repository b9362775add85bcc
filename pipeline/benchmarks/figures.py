"""What the benchmarks report alike: a figure over several folds, and the machine."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.registry.requirements import library_versions


def over_folds(values: Sequence[float]) -> dict[str, Any]:
    """A figure's mean and standard deviation (of the population, as in scikit-learn's searches), and each fold's value.

    {"mean", "standard_deviation", "folds"}, JSON-ready.
    """
    return {
        "mean": float(np.mean(values)),
        "standard_deviation": float(np.std(values)),
        "folds": [float(value) for value in values],
    }


def with_deviation(figure: dict[str, Any]) -> str:
    """A result of `over_folds` as text: 0.7534 ± 0.0170."""
    return f"{figure['mean']:.4f} ± {figure['standard_deviation']:.4f}"


def machine() -> dict[str, Any]:
    """The machine's number of cores, and the versions of the libraries."""
    return {"cores": os.cpu_count(), **library_versions()}
