"""Packs a fitted model, and keeps the result only if it is proven equal to the model."""

from dataclasses import dataclass
from typing import Any

from pipeline.scorer.arrays_file import COVER, UnusableScorer, write_arrays
from pipeline.scorer.forest import PackedScorer
from pipeline.scorer.packers.choose import pack, steps_of
from pipeline.scorer.proof import difference, unexplained
from processing.arrays import Floats


@dataclass(frozen=True)
class Packing:
    """The outcome: scorer.npz, None if there is none, and a sentence that says why."""

    scorer: bytes | None
    reason: str


def pack_and_prove(model: Any, rows: Floats) -> Packing:
    """Pack a fitted model and compare it with its `predict_proba` on these rows and on edge cases, bit for bit."""
    arrays = pack(model)
    if arrays is None:
        return Packing(
            None, f"a {_kind(model)} cannot be packed; only binary histogram gradient boosting on numbers can"
        )
    data = write_arrays(arrays)
    try:
        scorer = PackedScorer.from_bytes(data)
    except UnusableScorer as error:
        return Packing(None, str(error))
    if differs := difference(scorer, model, rows):
        return Packing(None, f"the packed model does not score as the model itself does: {differs}")
    reason = f"its {scorer.trees} trees score {len(rows)} rows and all edge cases exactly as the model itself does"
    if gap := unexplained(arrays, scorer, rows):
        del arrays[COVER]
        return Packing(write_arrays(arrays), f"{reason}; it gives no reasons: {gap}")
    return Packing(data, reason)


def _kind(model: Any) -> str:
    return " behind a ".join(type(step).__name__ for step in reversed(steps_of(model)))
