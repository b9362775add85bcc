"""How often and how much an entity pays: counts and amounts, with this transaction as the latest one of each window."""

import math
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from processing.features.aggregates import Amount
from processing.features.feature_family import FeatureFamily, Reading

NAN = math.nan


class CountFeatures(FeatureFamily):
    """The number of transactions in each window."""

    @cached_property
    def definitions(self) -> Mapping[str, tuple[object, ...]]:
        return {f"count_{span}": () for span in self.spans}

    def compute(self, reading: Reading) -> list[Any]:
        return [before + 1.0 for before in reading.before]


class AmountFeatures(FeatureFamily):
    """The number of transactions in each window, their amounts, and this amount compared with the others."""

    @cached_property
    def definitions(self) -> Mapping[str, tuple[object, ...]]:
        *shorter, longest = self.spans
        names = [f"{kind}_{span}" for span in self.spans for kind in ("count", "mean_amount")]
        trends = {f"amount_trend_{span}": (longest,) for span in shorter}
        compared = [f"amount_{kind}_{span}" for span in self.spans for kind in ("ratio", "zscore", "variation")]
        return dict.fromkeys(names, ()) | trends | dict.fromkeys(compared, ())

    def compute(self, reading: Reading) -> list[Any]:
        amount, _, state, before, arithmetic = reading
        where, divide, ratio, sqrt, real = (
            *(arithmetic.where, arithmetic.divide, arithmetic.ratio),
            *(arithmetic.sqrt, arithmetic.real),
        )
        scale, spent = self.scale, real(amount)
        sums = [state[place] for place in self._sums]  # of the others, exact as long as they are integers
        values: list[Any] = []
        for others, total in zip(before, sums, strict=True):
            count = others + 1.0
            values += (count, divide(real(total + amount), count) / scale)
        # The mean of the other amounts in the window against the mean before it.
        for others, total in zip(before[:-1], sums[:-1], strict=True):
            earlier = divide(real(sums[-1] - total), before[-1] - others)
            values.append(ratio(earlier > 0.0, divide(real(total), others), earlier))
        # This amount against the others, and how much those vary.
        for others, total, (q0, q1, q2) in zip(before, sums, self._limbs, strict=True):
            squares = real(state[q0]) + real(state[q1]) * 2.0**27 + real(state[q2]) * 2.0**54
            mean = divide(real(total), others)
            spread = divide(squares, others) - mean * mean
            deviation = sqrt(where(spread < 0.0, 0.0, spread))  # NaN stays NaN
            some, several = mean > 0.0, others > 1.0
            values += (
                ratio(some, spent, mean),
                where(several, (spent - mean) / (deviation + scale), NAN),
                ratio(some & several, deviation, mean),
            )
        return values

    @cached_property
    def _sums(self) -> list[int]:
        return self.places(f"s_{span}" for span in self.spans)

    @cached_property
    def _limbs(self) -> list[list[int]]:
        return [self.places(f"{limb}_{span}" for limb in Amount.state_names[1:]) for span in self.spans]
