"""What all families of an entity's features have in common. A family's features are computed together."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from processing.features.arithmetic import Arithmetic
from processing.features.windows import EntityWindows


class Reading(NamedTuple):
    """What the features of an entity are computed from: columns or numbers, whichever `arithmetic` is for.

    amount: minor units; time_us: microseconds since 1970
    state: integers, in the order of `EntityWindows.state_names`
    before: how many earlier events each window holds, as float64
    """

    amount: Any
    time_us: Any
    state: Sequence[Any]
    before: Sequence[Any]
    arithmetic: Arithmetic


@dataclass(frozen=True)
class FeatureFamily(ABC):
    """Some features of an entity.

    scale: minor units per major unit of the currency
    """

    windows: EntityWindows
    scale: float

    @cached_property
    @abstractmethod
    def definitions(self) -> Mapping[str, tuple[object, ...]]:
        """The features' names without the entity's, in the order of `compute`.

        With each goes what its values depend on, beside the events that a window of the length in its name holds.
        """

    @abstractmethod
    def compute(self, reading: Reading) -> list[Any]:
        """The values, each a column or a number. One that is not known is NaN."""

    @cached_property
    def spans(self) -> list[str]:
        """The names of the windows, the longest last."""
        return [window.name for window in self.windows.windows]

    def places(self, names: Iterable[str]) -> list[int]:
        """Where values of these names are in the state."""
        return [self.windows.state_names.index(name) for name in names]
