"""The features of one entity: their names, and how they follow from the integer state of its windows."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from processing.durations import FIVE_MINUTES_US, HOUR_US
from processing.features.aggregates import Amount, Distinct, Extremes, Last, Recency, Share, square_limbs
from processing.features.arithmetic import Arithmetic
from processing.features.windows import EntityWindows

NAN = math.nan


class Moment(NamedTuple):
    """What a feature reads beside the state: amounts in minor units, times in microseconds. Columns or numbers."""

    amount: Any
    time_us: Any


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
        return tuple(f"{self.entity}_{name}" for name in self._names())

    def _names(self) -> Iterator[str]:
        spans = [window.name for window in self.windows.windows]
        longest = spans[-1]
        if self._has(Amount):
            for span in spans:
                yield from (f"count_{span}", f"mean_amount_{span}")
            yield from (f"amount_trend_{span}" for span in spans[:-1])
            for span in spans:
                yield from (f"amount_{kind}_{span}" for kind in ("ratio", "zscore", "variation"))
        else:
            yield from (f"count_{span}" for span in spans)
        frauds = [window.name for window in self.windows.fraud_windows]
        for span in frauds:
            yield from (f"fraud_count_{span}", f"fraud_rate_{span}", f"fraud_mean_amount_{span}")
        for span in frauds[-1:]:
            yield from (f"hours_since_{which}_fraud_{span}" for which in ("first", "last"))
            yield f"count_since_last_fraud_{span}"
        for aggregate in self.windows.aggregates:
            match aggregate:
                case Extremes():
                    for span in spans:
                        yield from (f"amount_min_{span}", f"amount_max_{span}")
                case Recency():
                    yield from ("hours_since_last", f"hours_since_first_{longest}")
                case Share(column=column):
                    yield from (f"share_{column}_{span}" for span in spans)
                case Distinct(column=column):
                    yield from (f"distinct_{column}_{span}" for span in spans)
                case Last(columns=columns):
                    yield from (f"last_{column}" for column in columns)

    def _has(self, kind: type) -> bool:
        return any(isinstance(aggregate, kind) for aggregate in self.windows.aggregates)

    def compute(self, moment: Moment, state: Sequence[Any], arithmetic: Arithmetic) -> list[Any]:
        """The features, each a column or a number.

        `state` has a column or a number for each of `windows.state_names`. A feature without a value is NaN.
        """
        named = dict(zip(self.windows.state_names, state, strict=True))
        return [*self._behaviour(moment, named, arithmetic), *self._frauds(named, arithmetic)] + [
            value for each in self._others(moment, named, arithmetic) for value in each
        ]

    def _behaviour(self, moment: Moment, state: dict[str, Any], arithmetic: Arithmetic) -> list[Any]:
        """Counts and amounts, with this transaction as the latest one of each window."""
        where, divide, sqrt, real = arithmetic.where, arithmetic.divide, arithmetic.sqrt, arithmetic.load
        spans = [window.name for window in self.windows.windows]
        counts = [real(state[f"n_{span}"]) + 1.0 for span in spans]
        if not self._has(Amount):
            return counts
        scale, spent, own = self.scale, real(moment.amount), square_limbs(moment.amount)
        sums = [real(state[f"s_{span}"] + moment.amount) for span in spans]
        columns: list[Any] = []
        for n, s in zip(counts, sums, strict=True):
            columns += [n, divide(s, n) / scale]
        # The mean of the other amounts in the window against the mean before it.
        for n, s in zip(counts[:-1], sums[:-1], strict=True):
            before = divide(sums[-1] - s, counts[-1] - n)
            latest = divide(s - spent, n - 1.0)
            columns.append(where((before > 0.0) & (n > 1.0), divide(latest, before), NAN))
        # This amount against the others, and how much those vary.
        squared = spent * spent
        for span, n, s in zip(spans, counts, sums, strict=True):
            q0, q1, q2 = (state[f"{limb}_{span}"] + part for limb, part in zip(("q0", "q1", "q2"), own, strict=True))
            q = real(q0 + q1 * 2**27) + real(q2) * 2.0**54
            others = n - 1.0
            mean = divide(s - spent, others)
            spread = divide(q - squared, others) - mean * mean
            deviation = sqrt(where(spread < 0.0, 0.0, spread))  # NaN stays NaN
            some, several = mean > 0.0, others > 1.0
            columns.append(where(some, divide(spent, mean), NAN))
            columns.append(where(several, (spent - mean) / (deviation + scale), NAN))
            columns.append(where(some & several, divide(deviation, mean), NAN))
        return columns

    def _frauds(self, state: dict[str, Any], arithmetic: Arithmetic) -> list[Any]:
        where, divide, real = arithmetic.where, arithmetic.divide, arithmetic.load
        columns: list[Any] = []
        frauds: Any = 0.0
        for window in self.windows.fraud_windows:
            judged, frauds, lost = (real(state[f"{name}_{window.name}"]) for name in ("judged", "frauds", "lost"))
            columns += [frauds, where(judged > 0.0, divide(frauds, judged), 0.0)]
            columns.append(where(frauds > 0.0, divide(lost, frauds) / self.scale, NAN))
        for window in self.windows.fraud_windows[-1:]:
            for name in ("since_first_fraud", "since_last_fraud"):
                age = real(state[name])
                if window.edge_us == FIVE_MINUTES_US:
                    hours = age / (HOUR_US // FIVE_MINUTES_US)
                else:  # of a contract in whole days: since the fraud itself, which became known a label delay later
                    hours = age + self.windows.delay_us // window.edge_us
                columns.append(where(frauds > 0.0, hours, NAN))
            columns.append(where(frauds > 0.0, real(state["after_last_fraud"]), NAN))
        return columns

    def _others(self, moment: Moment, state: dict[str, Any], arithmetic: Arithmetic) -> Iterator[list[Any]]:
        where, divide, real = arithmetic.where, arithmetic.divide, arithmetic.load
        spans = [window.name for window in self.windows.windows]
        counts = {span: real(state[f"n_{span}"]) for span in spans}
        any_before = counts[spans[-1]] > 0.0
        for aggregate in self.windows.aggregates:
            match aggregate:
                case Extremes():
                    for span in spans:
                        for name in ("least", "most"):
                            yield [where(counts[span] > 0.0, real(state[f"{name}_{span}"]) / self.scale, NAN)]
                case Recency():
                    for name in ("last_us", "first_us"):
                        passed = real(moment.time_us - state[f"{name}_{spans[-1]}"]) / float(HOUR_US)
                        yield [where(any_before, passed, NAN)]
                case Share(column=column):
                    for span in spans:
                        same = real(state[f"same_{column}_{span}"])
                        yield [where(counts[span] > 0.0, divide(same, counts[span]), NAN)]
                case Distinct(column=column):
                    yield [real(state[f"distinct_{column}_{span}"]) for span in spans]
                case Last(columns=columns):
                    yield [arithmetic.from_bits(state[f"last_{column}_{spans[-1]}"]) for column in columns]
