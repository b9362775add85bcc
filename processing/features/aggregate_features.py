"""The features of further aggregates, one family each: extremes, recency, shares, distinct values, last values."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from processing.durations import HOUR_US
from processing.features.feature_family import FeatureFamily, Reading

NAN = math.nan


class ExtremeFeatures(FeatureFamily):
    """The smallest and the largest earlier amount of each window."""

    @cached_property
    def definitions(self) -> Mapping[str, tuple[object, ...]]:
        return {f"amount_{which}_{span}": () for span in self.spans for which in ("min", "max")}

    def compute(self, reading: Reading) -> list[Any]:
        where, real, scale = reading.arithmetic.where, reading.arithmetic.real, self.scale
        values: list[Any] = []
        for before, (least, most) in zip(reading.before, self._places, strict=True):
            some = before > 0.0
            values.append(where(some, real(reading.state[least]) / scale, NAN))
            values.append(where(some, real(reading.state[most]) / scale, NAN))
        return values

    @cached_property
    def _places(self) -> list[list[int]]:
        return [self.places((f"least_{span}", f"most_{span}")) for span in self.spans]


class RecencyFeatures(FeatureFamily):
    """The hours since the last and the first event of the longest window."""

    @cached_property
    def definitions(self) -> Mapping[str, tuple[object, ...]]:
        longest = self.spans[-1]
        return {"hours_since_last": (longest,), f"hours_since_first_{longest}": ()}

    def compute(self, reading: Reading) -> list[Any]:
        where, real = reading.arithmetic.where, reading.arithmetic.real
        some = reading.before[-1] > 0.0
        passed = [real(reading.time_us - reading.state[place]) / float(HOUR_US) for place in self._places]
        return [where(some, hours, NAN) for hours in passed]

    @cached_property
    def _places(self) -> list[int]:
        return self.places(f"{name}_{self.spans[-1]}" for name in ("last_us", "first_us"))


@dataclass(frozen=True)
class ShareFeatures(FeatureFamily):
    """The share of the earlier events of each window that have the same value of a column as this one."""

    column: str
    values: tuple[str, ...]

    @cached_property
    def definitions(self) -> Mapping[str, tuple[object, ...]]:
        return {f"share_{self.column}_{span}": (frozenset(self.values),) for span in self.spans}

    def compute(self, reading: Reading) -> list[Any]:
        divide, real = reading.arithmetic.divide, reading.arithmetic.real
        same = [real(reading.state[place]) for place in self._places]
        return [divide(some, before) for some, before in zip(same, reading.before, strict=True)]

    @cached_property
    def _places(self) -> list[int]:
        return self.places(f"same_{self.column}_{span}" for span in self.spans)


@dataclass(frozen=True)
class DistinctFeatures(FeatureFamily):
    """How many different values of a column the earlier events of each window have."""

    column: str

    @cached_property
    def definitions(self) -> Mapping[str, tuple[object, ...]]:
        return {f"distinct_{self.column}_{span}": () for span in self.spans}

    def compute(self, reading: Reading) -> list[Any]:
        return [reading.arithmetic.real(reading.state[place]) for place in self._places]

    @cached_property
    def _places(self) -> list[int]:
        return self.places(f"distinct_{self.column}_{span}" for span in self.spans)


@dataclass(frozen=True)
class LastFeatures(FeatureFamily):
    """The values of columns at the last event of the longest window."""

    columns: tuple[str, ...]

    @cached_property
    def definitions(self) -> Mapping[str, tuple[object, ...]]:
        return {f"last_{column}": (self.spans[-1],) for column in self.columns}

    def compute(self, reading: Reading) -> list[Any]:
        return [reading.arithmetic.from_bits(reading.state[place]) for place in self._places]

    @cached_property
    def _places(self) -> list[int]:
        return self.places(f"last_{column}_{self.spans[-1]}" for column in self.columns)
