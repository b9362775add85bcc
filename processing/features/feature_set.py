"""The features: defined once, computed by the same code in the Spark job and in the API.

A feature is a float64. It is computed from the integer state of the windows with nothing but +, -, *, / and square
root, which IEEE 754 rounds correctly: the same state gives the same bits on every machine, for one row or a million.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from processing.arrays import Floats
from processing.contract import Contract, Entity
from processing.features.arithmetic import COLUMNS, NUMBERS, Arithmetic
from processing.features.declared_features import DeclaredFeatures
from processing.features.windows import HOUR_US, Ints, Windows

OWN = 3  # the first features are of the transaction alone: amount, hour, weekend


@dataclass(frozen=True)
class FeatureSet:
    """The features of a contract: their names, in the order of the model's columns, and how they are computed."""

    contract: Contract

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names, in order. A contract that would repeat one is refused when it is read."""
        return (*self.declared.base, *self.declared.names)

    @cached_property
    def declared(self) -> DeclaredFeatures:
        """The features that the contract declares; they come last."""
        names = ["amount", "hour", "weekend"]
        for entity in self.contract.entities:
            names += _entity_names(entity)
        return DeclaredFeatures(self.contract, (*names, *self.contract.numeric, *self.contract.categorical))

    @property
    def definition(self) -> tuple[object, ...]:
        """All that the values depend on: contracts with an equal one give the same features for the same rows."""
        contract = self.contract
        behaviour = [(e.name, e.identifier, e.windows_days, e.fraud_windows_days) for e in contract.entities]
        delay = contract.label_delay_days if any(e.fraud_windows_days for e in contract.entities) else 0
        declared = [(feature.name, feature.expression) for feature in contract.declared]
        extras = (contract.numeric, tuple(contract.categorical.items()))
        return (*behaviour, delay, contract.amount_decimals, *extras, *declared)

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
        """The columns of the whole state: each entity's windows in turn."""
        return tuple(f"{name}_{column}" for name, windows in self.windows.items() for column in windows.columns)

    def compute(self, amount: Ints, time_us: Ints, state: Ints, extras: Floats) -> Floats:
        """The features, [n, len(names)] float64.

        `amount` [n] in minor units, `time_us` [n] microseconds since 1970, `state` [n, len(state_names)] int64,
        `extras` [n, x] from `encode`. A feature without a value (a ratio to nothing) is NaN.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            columns = self._columns(amount, time_us // HOUR_US, state.T.astype(np.float64), COLUMNS)
        return self.declared.of_columns(np.column_stack([*columns, extras]))

    def compute_one(self, amount: int, time_us: int, state: Sequence[int] | None, extras: Floats) -> Floats:
        """The features of one transaction, [1, len(names)], with the same bits as from `compute`.

        `state` in the order of `state_names`, `extras` [1, x]. Without a state, the features computed from it are NaN.
        The arithmetic is the same, on numbers instead of columns: NumPy takes several times as long for columns of one.
        """
        values = [float(value) for value in (state or [0] * len(self.state_names))]
        columns = self._columns(amount, time_us // HOUR_US, values, NUMBERS)
        if state is None:
            columns[OWN:] = [math.nan] * (len(columns) - OWN)
        return np.array([self.declared.of_numbers([*columns, *extras[0].tolist()])])

    def _columns(self, amount: Any, hour: Any, state: Any, arithmetic: Arithmetic) -> list[Any]:
        """The features except the extras. Each value is a column or a number, whichever `arithmetic` is for."""
        money = amount / float(self.contract.minor_units)
        columns = [money, hour % 24 + 0.0, ((hour // 24 + 3) % 7 >= 5) + 0.0]
        start = 0
        for windows in self.windows.values():
            end = start + windows.width
            columns += self._behaviour(windows, amount + 0.0, state[start:end], arithmetic)
            start = end
        return columns

    def _behaviour(self, windows: Windows, spent: Any, values: Any, arithmetic: Arithmetic) -> list[Any]:
        where, divide, sqrt = arithmetic.where, arithmetic.divide, arithmetic.sqrt
        scale = float(self.contract.minor_units)
        columns: list[Any] = []
        end = 3 * len(windows.hours)
        counts, sums, squares = (values[kind:end:3] for kind in range(3))
        for n, s in zip(counts, sums, strict=True):
            columns += [n, divide(s, n) / scale]
        # The mean of the other amounts in the window against the mean before it.
        for n, s in zip(counts[:-1], sums[:-1], strict=True):
            before = divide(sums[-1] - s, counts[-1] - n)
            latest = divide(s - spent, n - 1.0)
            columns.append(where((before > 0.0) & (n > 1.0), divide(latest, before), np.nan))
        # This amount against the others, and how much those vary.
        for n, s, q in zip(counts, sums, squares, strict=True):
            others = n - 1.0
            mean = divide(s - spent, others)
            spread = divide(q - spent * spent, others) - mean * mean
            deviation = sqrt(where(spread < 0.0, 0.0, spread))  # NaN stays NaN
            some, several = mean > 0.0, others > 1.0
            columns.append(where(some, divide(spent, mean), np.nan))
            columns.append(where(several, (spent - mean) / (deviation + scale), np.nan))
            columns.append(where(some & several, divide(deviation, mean), np.nan))
        at, f = end, 0.0
        for _ in windows.fraud_hours:
            n, f, g = values[at], values[at + 1], values[at + 2]
            columns += [f, where(n > 0.0, divide(f, n), 0.0), where(f > 0.0, divide(g, f) / scale, np.nan)]
            at += 3
        if windows.fraud_hours:
            columns += [where(f > 0.0, values[at + i], np.nan) for i in range(3)]
        return columns

    def encode(self, columns: Mapping[str, Sequence[Any] | NDArray[Any]], rows: int) -> Floats:
        """The contract's extra columns as numbers, [rows, x] float64.

        Numbers stay as they are; a category becomes its position in the contract's list, compared as text, so that 7 is
        "7". A missing or unlisted one is NaN, as is all of a column that is not there.
        """
        encoded = np.full((rows, len(self.contract.numeric) + len(self.contract.categorical)), np.nan)
        for i, name in enumerate(self.contract.numeric):
            if name in columns:
                encoded[:, i] = np.asarray(columns[name], dtype=np.float64)
        for i, (name, known) in enumerate(self.contract.categorical.items(), len(self.contract.numeric)):
            if name not in columns:
                continue
            positions: dict[str | None, float] = {value: float(position) for position, value in enumerate(known)}
            texts = (value if isinstance(value, str | None) else str(value) for value in columns[name])
            encoded[:, i] = [positions.get(text, np.nan) for text in texts]
        return encoded


def _entity_names(entity: Entity) -> list[str]:
    names = []
    for days in entity.windows_days:
        names += [f"{entity.name}_count_{days}d", f"{entity.name}_mean_amount_{days}d"]
    names += [f"{entity.name}_amount_trend_{days}d" for days in entity.windows_days[:-1]]
    for days in entity.windows_days:
        names += [f"{entity.name}_amount_{kind}_{days}d" for kind in ("ratio", "zscore", "variation")]
    for days in entity.fraud_windows_days:
        names += [f"{entity.name}_fraud_count_{days}d", f"{entity.name}_fraud_rate_{days}d"]
        names.append(f"{entity.name}_fraud_mean_amount_{days}d")
    for days in entity.fraud_windows_days[-1:]:
        names += [f"{entity.name}_hours_since_first_fraud_{days}d", f"{entity.name}_hours_since_last_fraud_{days}d"]
        names.append(f"{entity.name}_count_since_last_fraud_{days}d")
    return names


def minor_units(amounts: Floats, contract: Contract) -> Ints:
    """Amounts in major units as whole minor units, rounded to the nearest, ties to even."""
    return np.rint(amounts * float(contract.minor_units)).astype(np.int64)
