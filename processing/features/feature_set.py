"""The features: defined once, computed by the same code for the Spark job and for the API.

A feature is a float64. From the integer state of the windows it is made with nothing but +, -, *, / and square
root, which IEEE 754 rounds correctly: the same state gives the same bits on every machine, one row or a million.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from processing.arrays import Floats
from processing.contract import Contract, Entity
from processing.features.windows import HOUR_US, Ints, Windows

if TYPE_CHECKING:
    import pyarrow as pa

PLAIN = 3  # features of the transaction alone come first: amount, hour, weekend


class Arithmetic(NamedTuple):
    """What is written differently for columns and for single numbers. What is divided by zero is not to be used."""

    where: Callable[[Any, Any, Any], Any]
    divide: Callable[[Any, Any], Any]
    sqrt: Callable[[Any], Any]


OF_COLUMNS = Arithmetic(np.where, np.divide, np.sqrt)
OF_NUMBERS = Arithmetic(
    lambda condition, yes, no: yes if condition else no, lambda a, b: a / b if b else math.nan, math.sqrt
)


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
    def definition(self) -> tuple[object, ...]:
        """What decides the features' values: contracts with the same one give the same features to the same rows."""
        contract = self.contract
        behaviour = [(e.name, e.column, e.windows_days, e.fraud_windows_days) for e in contract.entities]
        delay = contract.label_delay_days if any(e.fraud_windows_days for e in contract.entities) else 0
        return (*behaviour, delay, contract.amount_decimals, contract.numeric, tuple(contract.categorical.items()))

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
        with np.errstate(divide="ignore", invalid="ignore"):
            columns = self._columns(amount, time_us // HOUR_US, state.T.astype(np.float64), OF_COLUMNS)
        return np.column_stack([*columns, extras])

    def compute_one(self, amount: int, time_us: int, state: Sequence[int] | None, extras: Floats) -> Floats:
        """The features of one transaction, [1, len(names)], the same bits as `compute` gives.

        `state` as `state_names` has it, `extras` [1, x]; without a state, what is made from it is NaN. It is the same
        arithmetic, on numbers in place of columns: for columns of one number NumPy takes several times as long.
        """
        values = [float(value) for value in (state or [0] * len(self.state_names))]
        columns = self._columns(amount, time_us // HOUR_US, values, OF_NUMBERS)
        row = np.array([[*columns, *extras[0].tolist()]])
        if state is None:
            row[:, PLAIN : len(columns)] = np.nan
        return row

    def _columns(self, amount: Any, hour: Any, state: Any, of: Arithmetic) -> list[Any]:
        """The features but the extras. Each value is a column or a number, and `of` the arithmetic for it."""
        money = amount / float(self.contract.minor_units)
        columns = [money, hour % 24 + 0.0, ((hour // 24 + 3) % 7 >= 5) + 0.0]
        at = 0
        for windows in self.windows.values():
            width = windows.width
            columns += self._behaviour(windows, amount + 0.0, state[at : at + width], of)
            at += width
        return columns

    def _behaviour(self, windows: Windows, spent: Any, values: Any, of: Arithmetic) -> list[Any]:
        where, divide, sqrt = of
        scale = float(self.contract.minor_units)
        columns: list[Any] = []
        many = len(windows.hours)
        counts, sums, squares = (values[kind : 3 * many : 3] for kind in range(3))
        for n, s in zip(counts, sums, strict=True):
            columns += [n, divide(s, n) / scale]
        # The others' mean over the latest days against that of the days before them.
        for n, s in zip(counts[:-1], sums[:-1], strict=True):
            before = divide(sums[-1] - s, counts[-1] - n)
            latest = divide(s - spent, n - 1.0)
            columns.append(where((before > 0.0) & (n > 1.0), divide(latest, before), np.nan))
        # The amount against the others, and how much those vary.
        for n, s, q in zip(counts, sums, squares, strict=True):
            others = n - 1.0
            mean = divide(s - spent, others)
            spread = divide(q - spent * spent, others) - mean * mean
            deviation = sqrt(where(spread < 0.0, 0.0, spread))  # NaN stays
            some, several = mean > 0.0, others > 1.0
            columns.append(where(some, divide(spent, mean), np.nan))
            columns.append(where(several, (spent - mean) / (deviation + scale), np.nan))
            columns.append(where(some & several, divide(deviation, mean), np.nan))
        at, f = 3 * many, 0.0
        for _ in windows.fraud_hours:
            n, f, g = values[at], values[at + 1], values[at + 2]
            columns += [f, where(n > 0.0, divide(f, n), 0.0), where(f > 0.0, divide(g, f) / scale, np.nan)]
            at += 3
        if windows.fraud_hours:
            columns += [where(f > 0.0, values[at + i], np.nan) for i in range(3)]
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

    def encode_table(self, table: "pa.Table | pa.RecordBatch") -> Floats:
        """The contract's extra columns of a table, as `encode` gives them."""
        columns = {name: table.column(name).to_numpy(zero_copy_only=False) for name in self.contract.numeric}
        columns |= {name: table.column(name).to_pylist() for name in self.contract.categorical}
        return self.encode(columns, len(table))


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
    """Amounts in major units as whole minor units, to the nearest, ties to even."""
    return np.rint(amounts * float(contract.minor_units)).astype(np.int64)
