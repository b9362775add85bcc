"""What a change of contract means: what changes, what it costs, and what is refused."""

from collections.abc import Callable
from dataclasses import fields

import pytest
from every_aggregate import TEXT
from hypothesis import given
from hypothesis import strategies as st

from processing.contract import LASTING, Contract
from processing.contracts.contract_change import ContractChange
from processing.contracts.reader import load, parse, shipped
from processing.features.feature_set import FeatureSet

CONTRACT = load("transactions")


def edited(*edits: tuple[str, str], contract: Contract = CONTRACT) -> Contract:
    text = contract.text
    for old, new in edits:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return parse(text)


DECLARED = """
[[feature]]
name = "against_mean"
is = "amount / customer.mean_amount_30d"

[[feature]]
name = "against_trend"
is = "against_mean * customer.amount_trend_7d"
says = "{value:.1f} payments"

"""
NIGHT = """
[[feature]]
name = "at_night"
is = "where(hour < 6, 1, 0)"

"""
ACCEPTED = {
    "name": ('name = "transactions"', 'name = "tills"'),
    "maximum": ("maximum = 100000.0", "maximum = 500.0"),
    "refunds": ("# refunds = true", "refunds = true"),
    "delay": ("delay_days = 7 ", "delay_days = 2 "),
    "cost": ("needless_alert = 3.0", "needless_alert = 0.5"),
    "split": ("train_days = 60", "train_days = 30"),
    "a window more": ("windows_days = [1, 7, 30]     # behaviour", "windows_days = [1, 7, 14, 30]  # behaviour"),
    "a window less": ("windows_days = [1, 7, 30]\nfraud", "windows_days = [7, 30]\nfraud"),
    "a longer window": ("fraud_windows_days = [1, 7, 30]", "fraud_windows_days = [1, 7, 90]"),
    "a number": ("numeric = []", 'numeric = ["age", "distance"]'),
    "another value": ('"online"]', '"online", "moto"]'),
    "two features": ("[costs]", DECLARED + "[costs]"),
    "an order": ('"chip", "contactless"', '"contactless", "chip"'),
}
REFUSED = {
    "columns.id": ('id = "transaction_id" ', 'id = "txn" '),
    "columns.time": ('time = "event_time"', 'time = "booked_at"'),
    "columns.amount": ('amount = "amount"', 'amount = "eur"'),
    "columns.label": ('label = "is_fraud"', 'label = "chargeback"'),
    "time.format": ('format = "iso"', 'format = "unix"'),
    "time.zone": ('# zone = "Europe/Berlin"', 'zone = "Europe/Berlin"'),
    "amount.decimals": ("decimals = 2", "decimals = 1"),
    "'terminal_id' would be 'till' in tables": ('name = "terminal"', 'name = "till"'),
    "'customer' was identified by": ('column = "customer_id"', 'column = "iban"'),
}
contracts = st.builds(
    lambda names: edited(*(ACCEPTED[name] for name in names)), st.sets(st.sampled_from(sorted(ACCEPTED)))
)


@pytest.mark.parametrize("name", shipped())
def test_a_contract_differs_in_nothing_from_itself(name: str) -> None:
    change = ContractChange(load(name), load(name))
    assert change.is_empty
    assert (change.lines, change.refusals, change.store_rebuild) == ([], [], False)
    assert not any(change.features_change)


@given(contracts, contracts)
def test_what_one_way_adds_the_other_way_removes(one: Contract, other: Contract) -> None:
    there, back = ContractChange(one, other), ContractChange(other, one)
    assert there.refusals == back.refusals == []
    assert there.features_change.added == back.features_change.removed
    assert set(there.features_change.redefined) == set(back.features_change.redefined)
    assert there.columns_added == back.columns_removed
    assert bool(there.lines) is bool(back.lines) is not there.is_empty


@given(contracts, contracts)
def test_features_that_no_change_names_are_the_same_features(one: Contract, other: Contract) -> None:
    change = ContractChange(one, other).features_change
    kept = [name for name in FeatureSet(one).names if name not in change.removed]
    assert sorted(kept) == sorted(set(FeatureSet(other).names) - set(change.added))
    assert set(change.redefined) <= set(kept)
    if FeatureSet(one).definition == FeatureSet(other).definition:
        assert not any(change)


@pytest.mark.parametrize("name", sorted(ACCEPTED))
def test_what_can_be_computed_from_stored_rows_is_accepted_and_said(name: str) -> None:
    change = ContractChange(CONTRACT, edited(ACCEPTED[name]))
    assert change.refusals == []
    assert change.lines


@pytest.mark.parametrize("what", sorted(REFUSED))
def test_what_would_falsify_stored_rows_is_refused_with_the_reason(what: str) -> None:
    change = ContractChange(CONTRACT, edited(REFUSED[what]))
    assert [refusal for refusal in change.refusals if what in refusal and ": " in refusal]


def entity(name: str, keys: str) -> str:
    return f'[[entity]]\nname = "{name}"\n{keys}\n'


CUSTOMER, TERMINAL, PAIR = (
    entity("customer", 'column = "customer_id"\nwindows = ["10m", "7d"]'),
    entity("terminal", 'column = "terminal_id"\nwindows = ["7d"]'),
    entity("visitor", 'columns = ["customer_id", "terminal_id"]\nwindows = ["30d"]'),
)


def with_entities(*entities: str) -> Contract:
    start, end = CONTRACT.text.index("[[entity]]"), CONTRACT.text.index("[split]")
    return parse(CONTRACT.text[:start] + "\n".join(entities) + CONTRACT.text[end:])


KEPT_KEYS = st.sampled_from([(CUSTOMER, TERMINAL), (CUSTOMER, TERMINAL, PAIR), (CUSTOMER, PAIR, TERMINAL)])


@given(KEPT_KEYS, KEPT_KEYS)
def test_entities_come_go_and_move_while_the_key_columns_stay(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    change = ContractChange(with_entities(*one), with_entities(*other))
    assert change.refusals == []
    assert ("entity 'visitor' is new: customer_id, terminal_id over 30d" in change.lines) is (len(one) < len(other))
    assert ("entity 'visitor' goes" in change.lines) is (len(one) > len(other))
    assert change.store_rebuild is (len(one) != len(other))
    assert bool(change.lines) is (one != other)


@pytest.mark.parametrize(
    ("entities", "why"),
    [
        ((TERMINAL, CUSTOMER), "would be terminal_id, customer_id, in this order: decisions have them in another"),
        ((PAIR, TERMINAL), "column 'customer_id' would be 'customer_id' in tables: stored rows have it as 'customer'"),
        ((CUSTOMER,), "column 'terminal_id' identifies no entity any more: decisions and stored rows have it"),
        (
            (CUSTOMER, TERMINAL, PAIR.replace("terminal_id", "country")),
            "entity 'visitor' needs the column 'country': stored rows and decisions lack it",
        ),
    ],
)
def test_other_key_columns_are_refused_with_the_reason(entities: tuple[str, ...], why: str) -> None:
    change = ContractChange(with_entities(CUSTOMER, TERMINAL), with_entities(*entities))
    assert any(why in refusal for refusal in change.refusals)


def test_an_entity_keeps_its_columns() -> None:
    triple = PAIR.replace('"terminal_id"]', '"terminal_id", "till"]')
    shop = entity("shop", 'columns = ["customer_id", "till"]\nwindows = ["7d"]')
    before, after = with_entities(CUSTOMER, TERMINAL, PAIR, shop), with_entities(CUSTOMER, TERMINAL, triple, shop)
    (refusal,) = ContractChange(before, after).refusals
    assert refusal.startswith("entity 'visitor' was identified by customer_id, terminal_id, and is by")


TILES = {  # the changes of a customer with windows of tiles: what is said, and whether the store is set anew
    "one window less": ('["10m", "7d"]', '["7d"]', "customer: window '10m' goes", False),
    "a shorter one": ('["10m", "7d"]', '["10m", "1d", "7d"]', "customer: window '1d' is new", False),
    "a longer one": ('["10m", "7d"]', '["10m", "7d", "60d"]', "customer: window '60d' is new", True),
    "frauds": ('"7d"]', '"7d"]\nfraud_windows = ["6h"]', "customer: fraud window '6h' is new", True),
    "an aggregate": (
        '"7d"]',
        '"7d"]\naggregates = ["count", "amount", "extremes"]',
        "customer: aggregate 'extremes' is new",
        True,
    ),
    "fewer": ('"7d"]', '"7d"]\naggregates = ["count"]', "customer: aggregate 'amount' goes", True),
    "a category": (
        '"7d"]',
        '"7d"]\naggregates = ["count", "amount", "share:channel"]',
        "customer: aggregate 'share:channel' is new",
        True,
    ),
    "order": (
        '"7d"]',
        '"7d"]\naggregates = ["amount", "count"]',
        "customer: the aggregates are in another order",
        False,
    ),
    "busy": ('"7d"]', '"7d"]\nbusy = true', "customer: busy now", True),
    "days": (
        'windows = ["10m", "7d"]',
        "windows_days = [7]",
        "customer: windows consist of hours now",
        True,
    ),
}


@pytest.mark.parametrize("what", sorted(TILES))
def test_changes_of_windows_and_aggregates_are_said_with_what_the_store_has_to_do(what: str) -> None:
    old, new, line, rebuild = TILES[what]
    for before, after in ((CUSTOMER, CUSTOMER.replace(old, new)), (CUSTOMER.replace(old, new), CUSTOMER)):
        change = ContractChange(with_entities(before, TERMINAL), with_entities(after, TERMINAL))
        assert change.refusals == []
        assert change.store_rebuild is rebuild
        assert any("online store anew" in each for each in change.lines) is rebuild
        if before == CUSTOMER:
            assert line in change.lines


def test_every_feature_that_depends_on_the_longest_window_is_redefined_with_it() -> None:
    longer = parse(TEXT.replace('["10m", "6h", "1d", "30d"]', '["10m", "6h", "1d", "60d"]'))
    redefined = ContractChange(parse(TEXT), longer).features_change.redefined
    trends = [f"customer_amount_trend_{span}" for span in ("10m", "6h", "1d")]
    assert list(redefined) == [*trends, "customer_hours_since_last", "customer_last_lat", "customer_last_lon"]


def test_a_share_is_redefined_by_the_values_that_are_known() -> None:
    more = parse(TEXT.replace('["chip",', '["chip", "moto",'))
    redefined = ContractChange(parse(TEXT), more).features_change.redefined
    assert set(redefined) == {"channel", *(name for name in FeatureSet(more).names if "_share_channel_" in name)}


def test_every_lasting_entry_has_its_refusal() -> None:
    assert set(LASTING) < {field.name for field in fields(Contract)}
    with_origin = parse(CONTRACT.text.replace('"iso"', '"elapsed"\norigin = 2026-01-01T00:00:00Z'))
    assert len(ContractChange(CONTRACT, with_origin).refusals) == 2
    without_id = edited(('id = "transaction_id"', ""))
    assert len(ContractChange(CONTRACT, without_id).refusals) == 1


def test_a_column_is_never_given_another_kind() -> None:
    as_number = parse(CONTRACT.text.replace("numeric = []", 'numeric = ["channel"]').replace("categorical", "# c"))
    (refusal,) = ContractChange(CONTRACT, as_number).refusals
    assert "'channel' was a category and is a number now" in refusal


def test_rows_that_are_identified_by_their_content_keep_their_columns() -> None:
    ulb = load("ulb")
    fewer = parse(ulb.text.replace('"V1", ', ""))
    assert "read again" in "".join(ContractChange(ulb, fewer).refusals)


def test_a_zone_redefines_hours_and_weekends_where_no_stored_time_was_read_by_it() -> None:
    before = edited(('format = "iso"', 'format = "unix"'), ("[costs]", f"{NIGHT}[costs]"))
    change = ContractChange(before, edited(('# zone = "Europe/Berlin"', 'zone = "Asia/Tokyo"'), contract=before))
    assert change.refusals == []
    assert change.features_change.redefined == ("hour", "weekend", "at_night")
    assert change.entries == ['time.zone (was "", is "Asia/Tokyo")']


costs: list[tuple[str, Callable[[ContractChange], bool]]] = [
    ("delay", lambda c: all("terminal_" in name and "fraud" in name for name in c.features_change.redefined)),
    ("an order", lambda c: c.features_change.redefined == ("channel",)),
    ("a number", lambda c: c.features_change.added == c.columns_added == ("age", "distance")),
    ("a longer window", lambda c: c.store_rebuild and "97 days instead of 37" in c.lines[-1]),
    ("a window less", lambda c: not c.store_rebuild and len(c.features_change.removed) == 6),
    ("two features", lambda c: c.features_change.added == ("against_mean", "against_trend") and len(c.lines) == 4),
    ("cost", lambda c: not any(c.features_change) and len(c.lines) == 1),
]


@pytest.mark.parametrize(("name", "holds"), costs, ids=[name for name, _ in costs])
def test_the_cost_of_a_change_is_what_depends_on_it(name: str, holds: Callable[[ContractChange], bool]) -> None:
    assert holds(ContractChange(CONTRACT, edited(ACCEPTED[name])))


def test_a_declared_feature_is_redefined_by_what_it_is_computed_from() -> None:
    before = edited(ACCEPTED["two features"])
    longer = edited(("windows_days = [1, 7, 30]     # beh", "windows_days = [1, 7, 30, 60]  # beh"), contract=before)
    assert ContractChange(before, longer).features_change.redefined[-1:] == ("against_trend",)
    other = edited(("amount / customer.mean_amount_30d", "amount / customer.mean_amount_7d"), contract=before)
    assert ContractChange(before, other).features_change.redefined == ("against_mean", "against_trend")
    words = ContractChange(before, edited(("payments", "times"), contract=before))
    assert not any(words.features_change)
    assert words.lines == ["feature 'against_trend' reads differently as a reason"]
