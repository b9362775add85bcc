"""What the online store keeps for some contracts, and what it lacks for another one."""

import re

import pytest
from every_aggregate import TEXT
from hypothesis import given
from hypothesis import strategies as st

from processing.contract import Contract
from processing.contracts.reader import load, parse, shipped
from processing.contracts.store_needs import lacking

EVERYTHING = parse(TEXT)
LESS = {  # edits after which less is kept, and what is then lacking for all of it
    "a window": ('windows = ["30d"]', 'windows = ["1d"]', "needs 30 days of history in tiles of a day, .* keeps 0"),
    "frauds": (
        'fraud_windows = ["6h", "7d"]\n',
        "",
        "needs 9 days of history in tiles of an hour, and the online store keeps 7",
    ),
    "an aggregate": (
        '"extremes", "recency", "dist',
        '"recency", "dist',
        "needs 'least' of 'customer', which the online",
    ),
    "a value": (', "card = absent"', "", "needs 'channel=card = absent' of 'customer', which"),
    "a column": ('"last:lat,lon"', '"last:lat"', "needs 'last_lat_lon' of 'customer', which"),
    "an entity": ('name = "visitor"', 'name = "pair"', "needs the entity 'visitor', of which the online store keeps"),
}


def without(names: set[str]) -> Contract:
    text = TEXT
    for name in names:
        old, new, _ = LESS[name]
        assert text.count(old) == 1, name
        text = text.replace(old, new)
    return parse(text)


some_names = st.sets(st.sampled_from(sorted(LESS)))


@pytest.mark.parametrize("name", shipped())
def test_a_store_lacks_nothing_for_the_contract_that_it_is_set_for(name: str) -> None:
    assert lacking(load(name), [load(name)]) == ""


@given(some_names, some_names)
def test_a_store_for_two_contracts_keeps_what_both_need(one: set[str], other: set[str]) -> None:
    both = [without(one), without(other)]
    assert [lacking(contract, both) for contract in both] == ["", ""]


@pytest.mark.parametrize("name", sorted(LESS))
def test_what_a_store_lacks_is_named(name: str) -> None:
    assert re.search(LESS[name][2], lacking(EVERYTHING, [without({name})]))
    assert bool(lacking(without({name}), [EVERYTHING])) is (name in ("a column", "an entity"))  # it needs another
