"""Splits the training rows by time: the first part is fitted, the later part chooses the threshold."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pipeline.data.dataset import Dataset
from processing.contract import Contract
from processing.errors import BadInput


@dataclass(frozen=True)
class ValidationSplit:
    """Of rows in time order, those before index `fit_end` are fitted and those from index `start` validate.

    `gap_days` lie between the two parts. `how` describes the validation rows in words.
    """

    fit_end: int
    start: int
    gap_days: int
    how: str


def split_validation(rows: Dataset, contract: Contract) -> ValidationSplit:
    """Validation is the end of the training set: a fifth of its days, but no more days than a test has.

    The label delay before it is left out of the fit, as it is between training and test, unless less than half of
    the days would remain. If a part then lacks frauds or legitimate rows, validation begins earlier, up to half of the
    days. A set of a single day is split by rows. Raises BadInput if every such split leaves a part with one kind only.
    """
    for attempt in _splits(rows, contract):
        if rows.part(slice(0, attempt.fit_end)).learnable and rows.part(slice(attempt.start, None)).learnable:
            return attempt
    raise BadInput(
        f"{rows.frauds} frauds in {rows.rows} rows, {rows.period}: too few to fit a model and to choose a threshold on "
        "later rows; train on a longer period"
    )


def _splits(rows: Dataset, contract: Contract) -> Iterator[ValidationSplit]:
    last_day, gap = int(rows.day[-1]), contract.label_delay_days
    days = last_day - int(rows.day[0]) + 1
    if days == 1:
        for share in (0.2, 0.3, 0.4, 0.5):
            count = round(rows.rows * share)
            yield ValidationSplit(rows.rows - count, rows.rows - count, 0, f"the last {count} rows of the day")
        return
    fewest = max(1, min(contract.test_days, days // 5))
    for count in range(fewest, max(fewest, days // 2) + 1):
        start = int(np.searchsorted(rows.day, last_day - count + 1))
        how = f"the last {count} of {days} days"
        if 2 * (days - count - gap) >= days:
            yield ValidationSplit(int(np.searchsorted(rows.day, last_day - count - gap + 1)), start, gap, how)
        yield ValidationSplit(start, start, 0, how)
