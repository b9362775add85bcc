"""The features: defined once, computed by the same code in the Spark job and in the API.

A feature is a float64. It is computed from the integer state of the windows with nothing but +, -, *, / and square
root, which IEEE 754 rounds correctly: the same state gives the same bits on every machine, for one row or a million.
"""

import dataclasses
import math
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from processing.arrays import Floats, Ints
from processing.contract import Contract, Entity
from processing.durations import HOUR_US
from processing.features.arithmetic import COLUMNS, NUMBERS, Arithmetic
from processing.features.contract_windows import entity_windows
from processing.features.declared_features import DeclaredFeatures
from processing.features.entity_features import EntityFeatures
from processing.features.local_time import Clock, clock_of
from processing.features.windows import EntityWindows

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
        for entity in self.entities.values():
            names += entity.names
        return DeclaredFeatures(self.contract, (*names, *self.contract.numeric, *self.contract.categorical))

    @cached_property
    def entities(self) -> dict[str, EntityFeatures]:
        """The features of every entity, by its name."""
        scale = float(self.contract.minor_units)
        return {
            entity.name: EntityFeatures(entity.name, entity_windows(self.contract, entity), scale)
            for entity in self.contract.entities
        }

    @property
    def definition(self) -> tuple[object, ...]:
        """All that the values depend on: contracts with an equal one give the same features for the same rows."""
        contract = self.contract
        behaviour = [_definition(entity) for entity in contract.entities]
        delay = contract.label_delay_days if any(e.fraud_windows for e in contract.entities) else 0
        declared = [(feature.name, feature.expression) for feature in contract.declared]
        extras = (contract.numeric, tuple(contract.categorical.items()))
        clock = (self._clock,) if self._clock else ()
        return (*behaviour, delay, contract.amount_decimals, *extras, *declared, *clock)

    @cached_property
    def _clock(self) -> Clock | None:
        return clock_of(self.contract.time_zone) if self.contract.time_zone else None

    @property
    def dtypes(self) -> dict[str, str]:
        """The dtype of every feature, by name."""
        return dict.fromkeys(self.names, "float64")

    @cached_property
    def windows(self) -> dict[str, EntityWindows]:
        """The windows of every entity, by its name."""
        return {name: entity.windows for name, entity in self.entities.items()}

    @cached_property
    def state_names(self) -> tuple[str, ...]:
        """The columns of the whole state: each entity's windows in turn."""
        return tuple(f"{name}:{column}" for name, windows in self.windows.items() for column in windows.state_names)

    def compute(self, amount: Ints, time_us: Ints, state: Ints, extras: Floats) -> Floats:
        """The features, [n, len(names)] float64.

        `amount` [n] in minor units, `time_us` [n] microseconds since 1970, `state` [n, len(state_names)] int64,
        `extras` [n, x] from `encode`. A feature without a value (a ratio to nothing) is NaN.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            columns = self._columns(amount, time_us, list(state.T), COLUMNS)
        return self.declared.of_columns(np.column_stack([*columns, extras]))

    def compute_one(self, amount: int, time_us: int, state: Sequence[int] | None, extras: Floats) -> Floats:
        """The features of one transaction, [1, len(names)], with the same bits as from `compute`.

        `state` in the order of `state_names`, `extras` [1, x]. Without a state, the features computed from it are NaN.
        The arithmetic is the same, on numbers instead of columns: NumPy takes several times as long for columns of one.
        """
        columns = self._columns(amount, time_us, state or [0] * len(self.state_names), NUMBERS)
        if state is None:
            columns[OWN:] = [math.nan] * (len(columns) - OWN)
        numbers = self.declared.of_numbers([*columns, *extras[0].tolist()])
        return np.frombuffer(array("d", numbers)).reshape(1, -1)  # takes half as long as an array of a list

    def _columns(self, amount: Any, time_us: Any, state: Sequence[Any], arithmetic: Arithmetic) -> list[Any]:
        """The features except the extras. Each value is a column or a number, whichever `arithmetic` is for."""
        hour = (self._clock.local(time_us) if self._clock else time_us) // HOUR_US
        money = amount / float(self.contract.minor_units)
        columns = [money, hour % 24 + 0.0, ((hour // 24 + 3) % 7 >= 5) + 0.0]
        start = 0
        for entity in self.entities.values():
            end = start + len(entity.windows.state_names)
            columns += entity.compute(amount, time_us, state[start:end], arithmetic)
            start = end
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


def _definition(entity: Entity) -> tuple[object, ...]:
    """All that the features of an entity depend on."""
    if entity.whole_days:
        days = (tuple(int(text[:-1]) for text in texts) for texts in (entity.windows, entity.fraud_windows))
        return (entity.name, entity.identifier, *days, "1s")
    return dataclasses.astuple(entity)


def minor_units(amounts: Floats, contract: Contract) -> Ints:
    """Amounts in major units as whole minor units, rounded to the nearest, ties to even."""
    return np.rint(amounts * float(contract.minor_units)).astype(np.int64)
