"""The train and test sets of a run: split by time, with the label delay between them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from math import sqrt

from processing.contract import Contract
from processing.errors import BadInput

EPOCH = date(1970, 1, 1)
SETTLED_SHARE = 0.9  # of the usual share of labelled rows; only unusually late labels may still be missing
TOLERANCE = 2.0  # standard deviations by which a settled day's share may fall short by chance
MIN_TEST_SHARE = 0.01  # of the usual number of labelled rows; a smaller test set measures nothing


@dataclass(frozen=True)
class DaySplit:
    """The days of a run's sets, as day numbers from 1970-01-01.

    unsettled: from the first to the last labelled day after the test set; empty if there is none
    """

    train: range
    test: range
    unsettled: range = range(0)

    def dates(self) -> dict[str, list[str]]:
        """First and last day of each set, and of the unsettled days if there are any, as ISO dates."""
        return {
            name: [date_of(days[0]).isoformat(), date_of(days[-1]).isoformat()]
            for name, days in (("train", self.train), ("test", self.test), ("unsettled", self.unsettled))
            if days
        }


def date_of(day: int) -> date:
    """The date of a day number."""
    return EPOCH + timedelta(days=int(day))


def split_days(labelled: Mapping[int, int], rows: Mapping[int, int], contract: Contract) -> DaySplit:
    """The days to train on and to test on, from the number of rows and of labelled rows of each day.

    The test set is the last `test_days` days up to the newest settled one. The train set is the `train_days` days
    before it, less the label delay: those labels would be known when the model serves.

    A day is settled when the share of its rows that have a label is at least 90 % of the usual share, within
    sampling error. The usual share is that of the day with the median labelled row: 1 if labels are complete, 0.3 if
    three rows in ten are ever labelled. Early reports for later days do not change it. A test set with less than 1 % of
    the usual labelled rows is skipped too. Raises BadInput if there are too few days.
    """
    days = sorted(day for day, count in labelled.items() if count)
    needed = contract.test_days + contract.label_delay_days + 1
    problem = (
        f"the contract {contract.name!r} needs labelled transactions of at least {needed} days to train and "
        f"test on ({contract.test_days} to test, {contract.label_delay_days} delay, 1 to train)"
    )
    if not days:
        raise BadInput(f"{problem}; there is no labelled row. Add files with labels")
    train, test = _ranges(days, labelled, rows, contract, contract.test_days)
    last = test[-1]
    if not any(labelled.get(day) for day in train):
        available = f"found {date_of(days[0])} to {date_of(last)}"
        if train:
            available += f", and none from {date_of(train[0])} to {date_of(train[-1])} to train on"
        if last < days[-1]:
            available += (
                f". Days up to {date_of(days[-1])} have labels too, but too few to test on (less than "
                f"{SETTLED_SHARE:.0%} of the usual share of rows)"
            )
        raise BadInput(f"{problem}; {available}. {_remedy(days, labelled, rows, contract)}")
    later = [day for day in days if day > last]
    return DaySplit(train, test, range(later[0], later[-1] + 1) if later else range(0))


def _ranges(
    days: list[int], labelled: Mapping[int, int], rows: Mapping[int, int], contract: Contract, test_days: int
) -> tuple[range, range]:
    """The train and test days. There may be no train days, or none with a label."""
    last = _newest_settled(days, labelled, rows, test_days)
    test = range(last + 1 - test_days, last + 1)
    train_end = test.start - contract.label_delay_days
    return range(max(days[0], train_end - contract.train_days), train_end), test


def _remedy(days: list[int], labelled: Mapping[int, int], rows: Mapping[int, int], contract: Contract) -> str:
    """Advice for too little history: test on fewer days, if that leaves at least as many to train on."""
    possible = 0
    for fewer in range(contract.test_days - 1, 0, -1):
        train, _ = _ranges(days, labelled, rows, contract, fewer)
        labelled_days = sum(bool(labelled.get(day)) for day in train)
        possible = fewer if labelled_days else possible
        if labelled_days >= fewer:
            break
    if not possible:
        return "Add older files: there are too few days for any split.test_days"
    return (
        f"Add older files, or set split.test_days to {possible} in a copy of the contract and run again with "
        "--contract and that copy"
    )


def _newest_settled(days: list[int], labelled: Mapping[int, int], rows: Mapping[int, int], test_days: int) -> int:
    """The newest of the labelled `days` at which a test set may end; the day with the usual share always may."""
    share = {day: labelled[day] / rows[day] for day in days}
    tested = {day: sum(labelled.get(day - back, 0) for back in range(test_days)) for day in days}
    usual_share, usual_tested = _usual(share, labelled), _usual(tested, labelled)

    def is_settled(day: int) -> bool:
        expected = usual_share * rows[day]
        tolerance = TOLERANCE * sqrt(expected * (1 - usual_share))
        return labelled[day] >= SETTLED_SHARE * expected - tolerance and tested[day] >= MIN_TEST_SHARE * usual_tested

    return next(day for day in reversed(days) if is_settled(day))


def _usual(values: Mapping[int, float], labelled: Mapping[int, int]) -> float:
    """The median of a value by day, weighted by the day's labelled rows."""
    below, half = 0, sum(labelled[day] for day in values) / 2
    for day in sorted(values, key=lambda day: values[day]):
        below += labelled[day]
        if below >= half:
            break
    return values[day]
