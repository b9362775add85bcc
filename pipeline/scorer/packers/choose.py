"""Chooses the packer of a fitted model by the library of its estimator. Its module is imported only then."""

from importlib import import_module
from typing import Any

from numpy.typing import NDArray
from sklearn.pipeline import Pipeline

PACKERS = {  # library: the module that packs its models
    "sklearn": "pipeline.scorer.packers.scikit_learn",
}


def pack(model: Any) -> dict[str, NDArray[Any]] | None:
    """The arrays of a fitted model; None if no packer can describe it."""
    module = PACKERS.get(type(steps_of(model)[-1]).__module__.partition(".")[0])
    if module is None:
        return None
    arrays: dict[str, NDArray[Any]] | None = import_module(module).pack(model)
    return arrays


def steps_of(model: Any) -> list[Any]:
    """The fitted steps of a pipeline, or the model alone."""
    return [step for _, step in model.steps] if isinstance(model, Pipeline) else [model]
