"""The known frauds of an entity: how many, which share of its transactions, how much, and how long ago."""

import math
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from processing.durations import FIVE_MINUTES_US, HOUR_US
from processing.features.feature_family import FeatureFamily, Reading

NAN = math.nan


class FraudFeatures(FeatureFamily):
    """The frauds in each fraud window, and the first and the last one in the longest."""

    @cached_property
    def definitions(self) -> Mapping[str, tuple[object, ...]]:
        delay_us, windows = self.windows.delay_us, self.windows.fraud_windows
        known: dict[str, tuple[object, ...]] = {}
        for window in windows:
            known[f"fraud_count_{window.name}"] = (delay_us,)
            known[f"fraud_rate_{window.name}"] = (delay_us, window.tile_us)
            known[f"fraud_mean_amount_{window.name}"] = (delay_us,)
        for window in windows[-1:]:
            for which in ("first", "last"):
                known[f"hours_since_{which}_fraud_{window.name}"] = (delay_us,)
            known[f"count_since_last_fraud_{window.name}"] = (delay_us, window.tile_us)
        return known

    def compute(self, reading: Reading) -> list[Any]:
        state, arithmetic = reading.state, reading.arithmetic
        where, divide, real = arithmetic.where, arithmetic.divide, arithmetic.real
        values: list[Any] = []
        frauds: Any = 0.0
        for places in self._sums:
            judged, frauds, lost = (real(state[place]) for place in places)
            values += (
                frauds,
                where(judged > 0.0, divide(frauds, judged), 0.0),
                where(frauds > 0.0, divide(lost, frauds) / self.scale, NAN),
            )
        for window in self.windows.fraud_windows[-1:]:
            first, last, after = (real(state[place]) for place in self._recency)
            for age in (first, last):
                if window.edge_us == FIVE_MINUTES_US:
                    hours = age / (HOUR_US // FIVE_MINUTES_US)
                else:  # of a contract in whole days: since the fraud itself, which became known a label delay later
                    hours = age + self.windows.delay_us // window.edge_us
                values.append(where(frauds > 0.0, hours, NAN))
            values.append(where(frauds > 0.0, after, NAN))
        return values

    @cached_property
    def _sums(self) -> list[list[int]]:
        names = ("judged", "frauds", "lost")
        return [self.places(f"{name}_{window.name}" for name in names) for window in self.windows.fraud_windows]

    @cached_property
    def _recency(self) -> list[int]:
        return self.places(("since_first_fraud", "since_last_fraud", "after_last_fraud"))
