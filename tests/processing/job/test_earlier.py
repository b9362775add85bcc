"""The earlier contracts that the feature job also computes features for, and those that it cannot."""

import json
from pathlib import Path

import pytest

from processing.contract import Contract
from processing.contracts.reader import load, parse
from processing.errors import Damaged
from processing.features.feature_set import FeatureSet
from processing.job.earlier_features import earlier_contracts, folder_of, not_computable
from processing.storage.home import Home
from processing.storage.open import open_home

TEXT = load("transactions").text
OURS = parse(TEXT)
WIDER = parse(TEXT.replace("[1, 7, 30]", "[1, 14, 30]"))
DELAYED = parse(TEXT.replace("delay_days = 7", "delay_days = 10"))
COSTLIER = parse(TEXT.replace("missed_fraud = 1.0", "missed_fraud = 2.0"))


def version(number: int) -> str:
    return f"20261122T10{number:02}00Z-baf3f"


def serve_under(home: Home, *contracts: Contract | str) -> None:
    """Record models trained under these contracts, as if they had served, most recent first."""
    for number, contract in enumerate(contracts):
        text = contract if isinstance(contract, str) else contract.text
        home.write(f"models/{version(number)}/manifest.json", json.dumps({"contract": {"text": text}}).encode())
    names = [version(number) for number in range(len(contracts))]
    home.write("models/latest.json", json.dumps({"version": names[0], "previous": names[1:]}).encode())


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return open_home(tmp_path)


def test_each_other_feature_definition_is_listed_once(home: Home) -> None:
    messages: list[str] = []
    assert earlier_contracts(home, OURS, messages.append) == []
    costlier = WIDER.text.replace("missed_fraud = 1.0", "missed_fraud = 2.0")
    serve_under(home, WIDER, OURS, COSTLIER, costlier, DELAYED)
    assert earlier_contracts(home, OURS, messages.append) == [WIDER, DELAYED]
    assert folder_of("r1", WIDER) == folder_of("r1", parse(costlier)) != folder_of("r1", DELAYED)
    assert messages == []


def test_at_most_three_definitions_are_computed_the_champions_first(home: Home) -> None:
    contracts = [parse(TEXT.replace("[1, 7, 30]", f"[1, {days}, 30]")) for days in (2, 3, 4, 5)]
    serve_under(home, *contracts)
    assert earlier_contracts(home, OURS, print) == contracts[:3]


def test_contracts_that_cannot_be_read_or_computed_are_reported_and_the_others_computed(home: Home) -> None:
    messages: list[str] = []
    older = parse(TEXT.replace('name = "terminal"', 'name = "till"'))
    serve_under(home, "no = contract", older, WIDER)
    home.write(f"models/{version(3)}/manifest.json", b"{")
    pointer = json.loads(home.read("models/latest.json"))
    pointer["previous"] += [version(3), version(4), "../../elsewhere"]
    home.write("models/latest.json", json.dumps(pointer).encode())
    assert earlier_contracts(home, OURS, messages.append) == [WIDER]
    assert len(messages) == 5
    for number, why in enumerate(["is not valid TOML", "'till'", "damaged", "does not exist", "outside the home"]):
        assert any(why in line for line in messages), (number, messages)


def test_an_unreadable_pointer_stops_the_run(home: Home) -> None:
    home.write("models/latest.json", b"{")
    with pytest.raises(Damaged, match="home repair"):
        earlier_contracts(home, OURS, print)


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ('name = "terminal"', 'name = "till"', "its features need the entity 'till'"),
        ('column = "terminal_id"', 'column = "till_id"', "its entity 'terminal' was the column 'till_id'"),
        ("channel = [", "way = [", ""),  # which counts as missing
        ("numeric = []", 'numeric = ["age"]', ""),
        ("decimals = 2", "decimals = 0", "its amounts had 0 decimals, and have 2 now"),
        ("[1, 7, 30]", "[1, 14]", ""),
        ("delay_days = 7", "delay_days = 10", ""),
    ],
)
def test_features_are_computable_if_the_table_has_the_columns_they_need(old: str, new: str, why: str) -> None:
    assert old in TEXT
    theirs = parse(TEXT.replace(old, new))
    assert why in not_computable(theirs, OURS)
    assert bool(not_computable(theirs, OURS)) == bool(why)
    assert FeatureSet(theirs).definition != FeatureSet(OURS).definition


PAIR = """
[[entity]]
name = "visitor"
columns = ["customer_id", "terminal_id"]
windows_days = [7]
"""


def test_a_pair_is_computable_from_any_table_with_its_columns() -> None:
    pair = parse(TEXT + PAIR)
    assert not_computable(pair, OURS) == not_computable(OURS, pair) == ""
    assert FeatureSet(pair).definition != FeatureSet(OURS).definition
    other = parse(TEXT + PAIR.replace("terminal_id", "shop_id"))
    assert not_computable(other, OURS) == "its features need the column 'shop_id', which the contract no longer has"


@pytest.mark.parametrize(
    ("old", "new"), [("train_days = 60", "train_days = 30"), ("missed_fraud = 1.0", "missed_fraud = 2.0"), ("#", "# ")]
)
def test_changes_that_do_not_affect_features_keep_their_definition(old: str, new: str) -> None:
    assert FeatureSet(parse(TEXT.replace(old, new))).definition == FeatureSet(OURS).definition
