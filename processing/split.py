"""The train and test sets of a run: split by time, with the label delay between them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta

from processing.contract import Contract
from processing.errors import BadInput

EPOCH = date(1970, 1, 1)


@dataclass(frozen=True)
class Split:
    """Days from 1970-01-01, each range without its end."""

    train: range
    test: range

    def words(self) -> dict[str, list[str]]:
        """First and last day of each set, as ISO dates."""
        return {
            name: [date_of(days[0]).isoformat(), date_of(days[-1]).isoformat()]
            for name, days in (("train", self.train), ("test", self.test))
        }


def date_of(day: int) -> date:
    """The date of a day number."""
    return EPOCH + timedelta(days=int(day))


def split_days(labelled: Mapping[int, int], contract: Contract) -> Split:
    """Which days to learn from and which to judge on.

    `labelled` counts the rows with a label by day. The test set is the last `test_days` days up to the newest one
    with labels; the train set is the `train_days` before it, older by the label delay at least, as it would be
    when the model serves. Raises BadInput when there is too little.
    """
    days = sorted(day for day, rows in labelled.items() if rows)
    needed = contract.test_days + contract.label_delay_days + 1
    if not days or days[-1] - days[0] + 1 < needed:
        found = f"{date_of(days[0])} to {date_of(days[-1])}" if days else "no labelled row at all"
        raise BadInput(
            f"the contract {contract.name!r} needs labelled transactions of at least {needed} days to train and "
            f"test on ({contract.test_days} to test, {contract.label_delay_days} delay, 1 to train); found {found}. "
            "Add older files, or set split.test_days lower in the contract"
        )
    end = days[-1] + 1
    test = range(end - contract.test_days, end)
    train_end = test.start - contract.label_delay_days
    return Split(range(max(days[0], train_end - contract.train_days), train_end), test)
