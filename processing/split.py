"""The train and test sets of a run: split by time, with the label delay between them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from math import sqrt

from processing.contract import Contract
from processing.errors import BadInput

EPOCH = date(1970, 1, 1)
SETTLED = 0.9  # of the usual share: labels that come later than most may be missing, and no more
CHANCE = 2.0  # standard deviations by which the share of a day may be lower by chance
SUBSTANCE = 0.01  # of the usual rows: a test set of fewer says nothing


@dataclass(frozen=True)
class DaySplit:
    """Days from 1970-01-01, each range without its end.

    `unsettled` is empty, or goes from the first labelled day after the test set to the last one.
    """

    train: range
    test: range
    unsettled: range = range(0)

    def dates(self) -> dict[str, list[str]]:
        """First and last day of each set, as ISO dates; likewise of the unsettled days, if there are any."""
        return {
            name: [date_of(days[0]).isoformat(), date_of(days[-1]).isoformat()]
            for name, days in (("train", self.train), ("test", self.test), ("unsettled", self.unsettled))
            if days
        }


def date_of(day: int) -> date:
    """The date of a day number."""
    return EPOCH + timedelta(days=int(day))


def split_days(labelled: Mapping[int, int], rows: Mapping[int, int], contract: Contract) -> DaySplit:
    """Which days to learn from and which to judge on, given how many rows each day has, and how many with a label.

    The test set is the last `test_days` days up to the newest settled one; the train set is the `train_days` before
    it, older by the label delay at least, as it would be when the model serves.

    A day is settled when the share of its rows that have a label is at least 90 % of the usual share, chance aside.
    The usual share is that of the day in which the median labelled row is: 1 where labels are complete, 0.3 where
    three of ten rows are ever labelled, whatever was reported early for later days. A test set of less than 1 % of
    the usual labelled rows is passed over as well. Raises BadInput when there is too little.
    """
    days = sorted(day for day, count in labelled.items() if count)
    needed = contract.test_days + contract.label_delay_days + 1
    problem = (
        f"the contract {contract.name!r} needs labelled transactions of at least {needed} days to train and "
        f"test on ({contract.test_days} to test, {contract.label_delay_days} delay, 1 to train)"
    )
    if not days:
        raise BadInput(f"{problem}; found no labelled row at all. Add files with labels")
    train, test = _ranges(days, labelled, rows, contract, contract.test_days)
    last = test[-1]
    if not any(labelled.get(day) for day in train):
        found = f"found {date_of(days[0])} to {date_of(last)}"
        if train:
            found += f", and none from {date_of(train[0])} to {date_of(train[-1])} to train on"
        if last < days[-1]:
            found += (
                f". Days up to {date_of(days[-1])} have labels too, but too few to test on (less than {SETTLED:.0%} "
                "of the usual share of rows)"
            )
        raise BadInput(f"{problem}; {found}. {_remedy(days, labelled, rows, contract)}")
    later = [day for day in days if day > last]
    return DaySplit(train, test, range(later[0], later[-1] + 1) if later else range(0))


def _ranges(
    days: list[int], labelled: Mapping[int, int], rows: Mapping[int, int], contract: Contract, test_days: int
) -> tuple[range, range]:
    """The days to train and to test on; those to train on may be none, or none with a label."""
    last = _newest_settled(days, labelled, rows, test_days)
    test = range(last + 1 - test_days, last + 1)
    train_end = test.start - contract.label_delay_days
    return range(max(days[0], train_end - contract.train_days), train_end), test


def _remedy(days: list[int], labelled: Mapping[int, int], rows: Mapping[int, int], contract: Contract) -> str:
    """What to do about too little history: fewer days to test on, if there are so many to train on then."""
    possible = 0
    for fewer in range(contract.test_days - 1, 0, -1):
        train, _ = _ranges(days, labelled, rows, contract, fewer)
        trained_on = sum(bool(labelled.get(day)) for day in train)
        possible = fewer if trained_on else possible
        if trained_on >= fewer:
            break
    if not possible:
        return "Add older files: there are too few days for any split.test_days"
    return (
        f"Add older files, or set split.test_days to {possible} in a copy of the contract and run again with "
        "--contract and that copy"
    )


def _newest_settled(days: list[int], labelled: Mapping[int, int], rows: Mapping[int, int], test_days: int) -> int:
    """The newest of the labelled `days` that a test set may end at. There is one always: that of a usual share."""
    share = {day: labelled[day] / rows[day] for day in days}
    tested = {day: sum(labelled.get(day - back, 0) for back in range(test_days)) for day in days}
    usual_share, usual_tested = _usual(share, labelled), _usual(tested, labelled)

    def is_settled(day: int) -> bool:
        expected = usual_share * rows[day]
        chance = CHANCE * sqrt(expected * (1 - usual_share))
        return labelled[day] >= SETTLED * expected - chance and tested[day] >= SUBSTANCE * usual_tested

    return next(day for day in reversed(days) if is_settled(day))


def _usual(values: Mapping[int, float], labelled: Mapping[int, int]) -> float:
    """The median of a value by day, each day weighing as many as it has labelled rows."""
    below, half = 0, sum(labelled[day] for day in values) / 2
    for day in sorted(values, key=lambda day: values[day]):
        below += labelled[day]
        if below >= half:
            break
    return values[day]
