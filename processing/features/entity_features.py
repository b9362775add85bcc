"""The features of one entity: their names, and how they follow from the integer state of its windows."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from processing.features.aggregate_features import (
    DistinctFeatures,
    ExtremeFeatures,
    LastFeatures,
    RecencyFeatures,
    ShareFeatures,
)
from processing.features.aggregates import Amount, Distinct, Extremes, Last, Recency, Share
from processing.features.arithmetic import Arithmetic
from processing.features.behaviour_features import AmountFeatures, CountFeatures
from processing.features.feature_family import FeatureFamily, Reading
from processing.features.fraud_features import FraudFeatures
from processing.features.windows import EntityWindows


@dataclass(frozen=True)
class EntityFeatures:
    """The features of an entity.

    scale: minor units per major unit of the currency
    """

    entity: str
    windows: EntityWindows
    scale: float

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names, in the order of `compute`."""
        return tuple(self.definitions)

    @cached_property
    def definitions(self) -> Mapping[str, tuple[object, ...]]:
        """What the values of each feature depend on, as `FeatureFamily.definitions` says, by its name."""
        return {f"{self.entity}_{name}": own for each in self.families for name, own in each.definitions.items()}

    @cached_property
    def families(self) -> list[FeatureFamily]:
        """All its features."""
        return list(self._families())

    def _families(self) -> Iterator[FeatureFamily]:
        windows, scale = self.windows, self.scale
        yield AmountFeatures(windows, scale) if Amount() in windows.aggregates else CountFeatures(windows, scale)
        yield FraudFeatures(windows, scale)
        for aggregate in windows.aggregates:
            match aggregate:
                case Extremes():
                    yield ExtremeFeatures(windows, scale)
                case Recency():
                    yield RecencyFeatures(windows, scale)
                case Share(column, values):
                    yield ShareFeatures(windows, scale, column, values)
                case Distinct(column):
                    yield DistinctFeatures(windows, scale, column)
                case Last(columns):
                    yield LastFeatures(windows, scale, columns)

    def compute(self, amount: Any, time_us: Any, state: Sequence[Any], arithmetic: Arithmetic) -> list[Any]:
        """The features, each a column or a number; one without a value is NaN.

        `amount` in minor units, `time_us` in microseconds since 1970, and a column or a number for each of
        `windows.state_names`.
        """
        real = arithmetic.real
        before = [real(state[place]) for place in self._counts]
        reading = Reading(amount, time_us, state, before, arithmetic)
        values: list[Any] = []
        for family in self.families:
            values += family.compute(reading)
        return values

    @cached_property
    def _counts(self) -> list[int]:
        """Where the state has the number of events of each window."""
        return [self.windows.state_names.index(f"n_{window.name}") for window in self.windows.windows]
