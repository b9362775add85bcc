"""The train and test days: with labels that are early, late, incomplete or missing for whole days."""

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import date

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from processing.contracts.reader import load
from processing.errors import BadInput
from processing.split import EPOCH, DaySplit, split_days

CONTRACT = replace(load("transactions"), test_days=3, label_delay_days=2, train_days=8)
FIRST = (date(2026, 3, 1) - EPOCH).days
Counts = dict[int, int]


def up_to_the_newest_label(labelled: Mapping[int, int]) -> tuple[range, range]:
    """The split of data whose labels are complete: the test set ends with the last labelled day."""
    days = [day for day, count in labelled.items() if count]
    test = range(max(days) - 2, max(days) + 1)
    return range(max(min(days), test.start - 10), test.start - 2), test


def counts(days: int) -> st.SearchStrategy[Counts]:
    """Numbers of rows by day, for at most so many days, some of them without rows."""
    rows_of_a_day = st.one_of(st.just(0), st.integers(100, 1_000))
    daily = st.lists(rows_of_a_day, min_size=6, max_size=days)
    return daily.map(lambda rows: {FIRST + i: count for i, count in enumerate(rows) if count})


def is_trainable(labelled: Counts) -> bool:
    if not labelled:
        return False
    train, _ = up_to_the_newest_label(labelled)
    return any(labelled.get(day) for day in train)


@given(counts(40))
def test_complete_labels_count_up_to_the_last_day(rows: Counts) -> None:
    assume(is_trainable(rows))
    split = split_days(rows, rows, CONTRACT)
    assert (split.train, split.test) == up_to_the_newest_label(rows)
    assert not split.unsettled


@given(counts(40), st.integers(1, 10), st.data())
def test_a_constant_share_of_labels_counts_like_complete_labels(rows: Counts, tenths: int, data: st.DataObject) -> None:
    assume(is_trainable(rows))
    share, labelled = tenths / 10, {}
    for day, count in rows.items():
        deviation = (count * share * (1 - share)) ** 0.5
        labelled[day] = round(share * count + data.draw(st.floats(-1, 1)) * deviation)
    split = split_days(labelled, rows, CONTRACT)
    assert (split.train, split.test) == up_to_the_newest_label(rows)


@given(counts(30), st.lists(st.tuples(st.integers(20, 1_000), st.integers(0, 5)), max_size=60), st.booleans())
def test_early_reports_change_neither_set(rows: Counts, later: list[tuple[int, int]], partly: bool) -> None:
    """Days with few labels, or none, after the labelled days are not settled yet."""
    assume(is_trainable(rows))
    labelled = {day: -(-count // 2) if partly else count for day, count in rows.items()}
    before = split_days(labelled, rows, CONTRACT)
    early = {}
    for day, (count, percent) in enumerate(later, max(rows) + 1):
        rows[day], labelled[day] = count, count * percent // 100
        early |= {day: labelled[day]} if labelled[day] else {}
    split = split_days(labelled, rows, CONTRACT)
    assert (split.train, split.test) == (before.train, before.test)
    assert list(split.unsettled) == (list(range(min(early), max(early) + 1)) if early else [])


def test_one_early_report_thirty_days_ahead_keeps_the_test_days_and_is_reported_as_unsettled() -> None:
    rows = {FIRST + i: 40 for i in range(60)}
    labelled = {day: 40 for day in rows if day < FIRST + 30} | {FIRST + 59: 1}
    assert split_days(labelled, rows, CONTRACT).dates() == {
        "train": ["2026-03-18", "2026-03-25"],
        "test": ["2026-03-28", "2026-03-30"],
        "unsettled": ["2026-04-29", "2026-04-29"],
    }


def test_a_single_labelled_row_after_a_gap_is_not_a_test_set() -> None:
    rows = {FIRST + i: 40 for i in range(30)} | {FIRST + 59: 1}
    split = split_days(rows, rows, CONTRACT)
    assert split.test == range(FIRST + 27, FIRST + 30)
    assert split.unsettled == range(FIRST + 59, FIRST + 60)


def test_a_day_is_settled_once_nine_tenths_of_its_usual_labels_are_there() -> None:
    rows = {FIRST + i: 1_000 for i in range(36)}
    labelled = dict.fromkeys(rows, 1000) | {FIRST + 30 + i: each for i, each in enumerate((950, 900, 899, 500, 3, 0))}
    split = split_days(labelled, rows, CONTRACT)
    assert split.test[-1] == FIRST + 31
    assert split.unsettled == range(FIRST + 32, FIRST + 35)


def test_the_error_without_labels_says_to_add_labelled_files() -> None:
    with pytest.raises(BadInput, match=r"at least 6 days .*there is no labelled row\. Add files with labels"):
        split_days({FIRST: 0}, {FIRST: 10}, CONTRACT)


def test_the_error_for_too_few_days_names_the_days_with_too_few_labels() -> None:
    rows = {FIRST + i: 40 for i in range(9)}
    labelled = {day: 40 for day in rows if day < FIRST + 5} | {FIRST + 8: 1}
    with pytest.raises(
        BadInput, match=r"found 2026-03-01 to 2026-03-05\. Days up to 2026-03-09 have labels too, .*90% of the usual"
    ):
        split_days(labelled, rows, CONTRACT)


def test_train_days_need_labels_too() -> None:
    """A single row from years ago makes the history long, but gives nothing to train on."""
    rows = {FIRST - 2_000: 1} | {FIRST + i: 40 for i in range(5)}
    with pytest.raises(BadInput, match=r"and none from 2026-02-21 to 2026-02-28 to train on"):
        split_days(rows, rows, CONTRACT)


@given(counts(12), st.integers(2, 9), st.integers(0, 4))
def test_the_advice_for_too_little_history_works(rows: Counts, test_days: int, delay: int) -> None:
    contract = replace(CONTRACT, test_days=test_days, label_delay_days=delay)
    try:
        split_days(rows, rows, contract)
    except BadInput as error:
        advised = re.search(r"set split\.test_days to (\d+) in a copy", str(error))
        for fewer in [int(advised[1])] if advised else []:
            split_days(rows, rows, replace(contract, test_days=fewer))
        for fewer in range(1, test_days) if rows and not advised else []:
            with pytest.raises(BadInput):
                split_days(rows, rows, replace(contract, test_days=fewer))


def test_the_advice_leaves_as_many_days_to_train_on_as_to_test_on() -> None:
    rows = {FIRST + i: 40 for i in range(9)}  # two of them are the delay
    with pytest.raises(BadInput, match=r"set split\.test_days to 3 in a copy"):
        split_days(rows, rows, replace(CONTRACT, test_days=7))


@given(st.dictionaries(st.integers(FIRST, FIRST + 50), st.tuples(st.integers(0, 60), st.integers(1, 60)), max_size=50))
def test_for_any_labels_the_sets_are_separate_and_contain_labels(days: dict[int, tuple[int, int]]) -> None:
    rows = {day: more + count for day, (count, more) in days.items()}
    labelled = {day: count for day, (count, _) in days.items()}
    try:
        split = split_days(labelled, rows, CONTRACT)
    except BadInput:
        return
    assert isinstance(split, DaySplit)
    assert (len(split.test), split.test.start - split.train.stop) == (3, 2)
    assert 1 <= len(split.train) <= 8
    assert labelled[split.test[-1]]
    assert any(labelled.get(day) for day in split.train)
    assert bool(split.unsettled) == any(count for day, count in labelled.items() if day > split.test[-1])
    assert split_days(labelled, rows | {FIRST + 99: 50}, CONTRACT) == split
