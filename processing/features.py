"""The features: defined once, computed by the same code for the Spark job and for the API.

A feature is a float64. From the integer state of the windows it is made with nothing but +, -, *, / and square
root, which IEEE 754 rounds correctly: the same state gives the same bits on every machine, one row or a million.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from processing.contract import Contract, Entity
from processing.windows import Ints, Windows, hour_of

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class FeatureSet:
    """The features of a contract: their names, in the order of the model's columns, and how they are computed."""

    contract: Contract

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names, in order; `parse` has made sure that they differ."""
        names = ["amount", "hour", "weekend"]
        for entity in self.contract.entities:
            names += _entity_names(entity)
        return (*names, *self.contract.numeric, *self.contract.categorical)

    @property
    def dtypes(self) -> dict[str, str]:
        """The dtype of every feature, by name."""
        return dict.fromkeys(self.names, "float64")

    @cached_property
    def windows(self) -> dict[str, Windows]:
        """The sawtooth windows of every entity, by its name."""
        return {
            entity.name: Windows(
                tuple(24 * days for days in entity.windows_days),
                tuple(24 * days for days in entity.fraud_windows_days),
                24 * self.contract.label_delay_days,
            )
            for entity in self.contract.entities
        }

    @cached_property
    def state_names(self) -> tuple[str, ...]:
        """The columns of the whole state: those of every entity's windows, one entity after the other."""
        return tuple(f"{name}_{column}" for name, windows in self.windows.items() for column in windows.columns)

    def compute(self, amount: Ints, time_us: Ints, state: Ints, extras: Floats) -> Floats:
        """The features, [n, len(names)] float64.

        `amount` [n] in minor units, `time_us` [n] microseconds since 1970, `state` [n, len(state_names)] int64,
        `extras` [n, x] from `encode`. What has no value (a ratio to nothing) is NaN.
        """
        hour = hour_of(time_us)
        money = amount / float(self.contract.minor_units)
        columns = [money, (hour % 24).astype(np.float64), ((hour // 24 + 3) % 7 >= 5).astype(np.float64)]
        at = 0
        with np.errstate(divide="ignore", invalid="ignore"):
            for windows in self.windows.values():
                width = len(windows.columns)
                columns += self._behaviour(windows, amount, state[:, at : at + width])
                at += width
        return np.column_stack([*columns, extras])

    def _behaviour(self, windows: Windows, amount: Ints, state: Ints) -> list[Floats]:
        scale = float(self.contract.minor_units)
        values = state.astype(np.float64)
        spent = amount.astype(np.float64)
        columns: list[Floats] = []
        many = len(windows.hours)
        for i in range(many):
            n, s = values[:, 2 * i], values[:, 2 * i + 1]
            columns += [n, s / n / scale]
        # The amount against the entity's other ones over the longest window: ratio and z-score, leave-one-out.
        others = values[:, 2 * many - 2] - 1.0
        mean = (values[:, 2 * many - 1] - spent) / others
        variance = np.maximum((values[:, 2 * many] - spent * spent) / others - mean * mean, 0.0)
        columns.append(np.where(mean > 0.0, spent / mean, np.nan))
        columns.append(np.where(others > 1.0, (spent - mean) / (np.sqrt(variance) + scale), np.nan))
        for i in range(2 * many + 1, state.shape[1], 2):
            n, f = values[:, i], values[:, i + 1]
            columns += [f, np.where(n > 0.0, f / n, 0.0)]
        return columns

    def encode(self, columns: Mapping[str, Sequence[Any] | NDArray[Any]], rows: int) -> Floats:
        """The contract's further columns as numbers, [rows, x] float64.

        Numbers as they are; a category as its place in the contract's list, compared as text, so that 7 is "7".
        Missing or unlisted is NaN.
        """
        encoded = np.full((rows, len(self.contract.numeric) + len(self.contract.categorical)), np.nan)
        for i, name in enumerate(self.contract.numeric):
            encoded[:, i] = np.asarray(columns[name], dtype=np.float64)
        for i, (name, known) in enumerate(self.contract.categorical.items(), len(self.contract.numeric)):
            places: dict[str | None, float] = {value: float(place) for place, value in enumerate(known)}
            texts = (value if isinstance(value, str | None) else str(value) for value in columns[name])
            encoded[:, i] = [places.get(text, np.nan) for text in texts]
        return encoded


def _entity_names(entity: Entity) -> list[str]:
    names = []
    for days in entity.windows_days:
        names += [f"{entity.name}_count_{days}d", f"{entity.name}_mean_amount_{days}d"]
    longest = entity.windows_days[-1]
    names += [f"{entity.name}_amount_ratio_{longest}d", f"{entity.name}_amount_zscore_{longest}d"]
    for days in entity.fraud_windows_days:
        names += [f"{entity.name}_fraud_count_{days}d", f"{entity.name}_fraud_rate_{days}d"]
    return names


def minor_units(amounts: Floats, contract: Contract) -> Ints:
    """Amounts in major units as whole minor units, to the nearest, ties to even."""
    return np.rint(amounts * float(contract.minor_units)).astype(np.int64)
