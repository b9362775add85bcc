"""Contracts: the shipped ones, the file format, and errors that say what to change."""

import hashlib
import tomllib
from dataclasses import replace
from datetime import UTC, datetime
from itertools import takewhile
from pathlib import Path
from textwrap import dedent

import pytest

from processing.contract import Contract
from processing.contracts.contract_change import ContractChange
from processing.contracts.reader import SHIPPED, load, parse, shipped
from processing.errors import BadInput
from processing.features.feature_set import FeatureSet

SMALL = """
name = "small"
numeric = ["distance"]
categorical = { channel = ["chip", "online"] }

[columns]
id = "id"
time = "at"
amount = "value"
label = "fraud"

[[entity]]
name = "card"
column = "card_no"
windows_days = [1, 7]
fraud_windows_days = [7]
"""


PAIRS = (
    SMALL.replace("channel =", "kind =")
    + """
[[entity]]
name = "visitor"
columns = ["card_no", "shop_no"]
windows_days = [7]

[[entity]]
name = "shopper"
columns = ["shop_no", "channel", "till"]
windows_days = [7]
"""
)


def paired(old: str, new: str) -> str:
    assert old in PAIRS
    return PAIRS.replace(old, new)


def changed(old: str, new: str) -> str:
    assert old in SMALL
    return SMALL.replace(old, new)


def tiled(aggregates: str = "", windows: str = '["10m", "7d"]', frauds: str = '["7d"]', more: str = "") -> str:
    """A contract whose entity has windows of tiles. Its key column `no` is no identifier."""
    keys = f"windows = {windows}\nfraud_windows = {frauds}\n{more}\n"
    keys += f"aggregates = {aggregates}\n" if aggregates else ""
    other = '[[entity]]\nname = "shop"\ncolumn = "the shop"\nwindows = ["1h"]\n'
    pair = '[[entity]]\nname = "visitor"\ncolumns = ["card_no", "till"]\nwindows = ["1h"]\n'
    return SMALL.replace("windows_days = [1, 7]\nfraud_windows_days = [7]\n", keys) + other + pair


def test_four_contracts_are_shipped() -> None:
    assert shipped() == ["handbook", "sparkov", "transactions", "ulb"]


def declaring(name: str, expression: str, says: str = "{value}") -> str:
    """A contract that declares a feature, or an entry to append to one."""
    entry = f'[[feature]]\nname = "{name}"\nis = "{expression}"\nsays = "{says}"\n'
    return entry if name == "y" else SMALL + entry


@pytest.mark.parametrize("name", shipped())
def test_shipped_contracts_load_under_their_name(name: str) -> None:
    contract = load(name)
    assert contract.name == name
    assert contract == load(SHIPPED / f"{name}.toml")
    names = FeatureSet(contract).names
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        (
            "transactions",
            "transaction_id event_time amount customer_id terminal_id channel is_fraud",
        ),
        ("handbook", "TRANSACTION_ID TX_DATETIME TX_AMOUNT CUSTOMER_ID TERMINAL_ID TX_FRAUD"),
        ("ulb", " ".join(["Time", "Amount", *(f"V{i}" for i in range(1, 29)), "Class"])),
        (
            "sparkov",
            "trans_num unix_time amt cc_num merchant city_pop lat long merch_lat merch_long gender category is_fraud",
        ),
    ],
)
def test_shipped_contracts_name_their_datasets_columns(name: str, columns: str) -> None:
    assert list(load(name).columns) == columns.split()


@pytest.mark.parametrize(
    ("name", "longest", "reach"), [("transactions", (), 37), ("handbook", ("90d",), 90), ("sparkov", (), 37)]
)
def test_contracts_with_entities_follow_behaviour_and_delayed_frauds(
    name: str, longest: tuple[str, ...], reach: int
) -> None:
    contract = load(name)
    days = ("1d", "7d", "30d")
    assert [entity.windows for entity in contract.entities] == [(*days, *longest), days]
    assert [entity.fraud_windows for entity in contract.entities] == [(), days]
    assert all(entity.whole_days for entity in contract.entities)
    assert contract.label_delay_days == 7
    assert contract.lookback_hours == reach * 24


def test_ulb_has_neither_entities_nor_windows() -> None:
    contract = load("ulb")
    assert contract.id is None
    assert contract.entities == ()
    assert contract.lookback_hours == 0
    assert contract.time_format == "elapsed"
    assert contract.time_origin == datetime(2013, 9, 1, tzinfo=UTC)
    features = FeatureSet(contract)
    assert features.windows == {}
    assert features.state_names == ()
    assert features.names == ("amount", "hour", "weekend", *contract.numeric)


def test_omitted_keys_have_their_defaults() -> None:
    contract = parse(SMALL)
    assert contract == Contract(
        name="small",
        id="id",
        time="at",
        amount="value",
        label="fraud",
        entities=contract.entities,
        numeric=("distance",),
        categorical={"channel": ("chip", "online")},
        text=SMALL,
    )
    assert contract.minor_units == 100


def test_a_contract_is_read_from_a_file_and_may_use_windows_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(SMALL, encoding="utf-8", newline="\r\n")
    assert replace(load(path), text="") == replace(parse(SMALL), text="")


def test_windows_are_sorted() -> None:
    contract = parse(changed("[1, 7]", "[30, 1, 7]"))
    assert contract.entities[0].windows == ("1d", "7d", "30d")
    contract = parse(tiled(windows='["30d", "10m", "24h", "6h"]'))
    assert contract.entities[0].windows == ("10m", "6h", "24h", "30d")


def test_an_origin_without_zone_is_utc_and_one_with_a_zone_is_converted() -> None:
    for origin in ("2020-01-01T00:00:00", "2020-01-01T02:00:00+02:00"):
        contract = parse(SMALL + f'[time]\nformat = "elapsed"\norigin = {origin}\n')
        assert contract.time_origin == datetime(2020, 1, 1, tzinfo=UTC)


def test_an_origin_without_an_offset_is_local_if_the_contract_has_a_zone() -> None:
    origins = ("2020-07-01T00:00:00", "2020-07-01T00:00:00+02:00", "2020-06-30T22:00:00Z")
    texts = (f'[time]\nformat = "elapsed"\nzone = "Europe/Berlin"\norigin = {origin}\n' for origin in origins)
    assert {parse(SMALL + text).time_origin for text in texts} == {datetime(2020, 6, 30, 22, tzinfo=UTC)}


def test_amounts_are_at_least_zero_or_the_largest_refund() -> None:
    assert parse(SMALL).amount_minimum == 0.0
    assert parse(SMALL + "[amount]\nmaximum = 500\nrefunds = true\n").amount_minimum == -500.0


def test_the_digest_depends_on_the_text_alone() -> None:
    assert parse(SMALL).digest == parse(SMALL, "elsewhere").digest
    assert parse(SMALL).digest != parse(SMALL + "# a remark\n").digest
    assert len(parse(SMALL).digest) == 64


def test_new_code_defines_the_features_of_an_old_contract_as_before() -> None:
    """Otherwise a run computes all of them anew. Change the digest only with the values of features."""
    definition = repr(FeatureSet(parse(SMALL)).definition).encode()
    assert hashlib.sha256(definition).hexdigest().startswith("ea01560ad2e51eaf")


def test_a_list_of_one_column_says_the_same_as_the_column() -> None:
    one, other = parse(SMALL), parse(changed('column = "card_no"', 'columns = ["card_no"]'))
    assert (one.entities, one.fingerprint, one.columns) == (other.entities, other.fingerprint, other.columns)
    assert other.changes(one) == []


def test_a_column_of_several_entities_is_there_once() -> None:
    contract = parse(PAIRS)
    assert " ".join(contract.columns) == "id at value card_no shop_no channel till distance kind fraud"
    assert contract.key_names == ("card", "shop_no", "channel", "till")
    assert "visitor_count_7d" in FeatureSet(contract).names


def test_another_column_of_a_pair_is_a_change_of_the_contract_and_of_its_features() -> None:
    before, now = parse(PAIRS), parse(paired('"card_no", "shop_no"', '"card_no", "till"'))
    assert FeatureSet(before).definition != FeatureSet(now).definition
    assert [line.split()[0] for line in now.changes(before)] == ["entity"]
    assert any("visitor" in line and "card_no, till" in line for line in ContractChange(before, now).refusals)


def test_an_unknown_name_lists_the_shipped_contracts() -> None:
    with pytest.raises(BadInput, match=r"'nonesuch'.*handbook, sparkov, transactions, ulb"):
        load("nonesuch")


def test_an_error_in_a_file_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(changed('name = "small"', "name = 3"), encoding="utf-8")
    with pytest.raises(BadInput, match=r"mine\.toml: name is 3, expected text"):
        load(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('name = "a"\nx = = 3\n', r"here is not valid TOML: .*line 2"),
        ("", r"here: the key 'columns' is missing \(expected table\)"),
        (changed('name = "small"', ""), r"here: the key 'name' is missing \(expected text\)"),
        (changed('amount = "value"', ""), r"here \[columns\]: the key 'amount' is missing \(expected text\)"),
        (changed('amount = "value"', "amount = 5"), r"here \[columns\]: amount is 5, expected text"),
        (changed("numeric", "numerics"), r"here: unknown key 'numerics'; did you mean 'numeric'\?"),
        (
            changed("fraud_windows_days", "fraud_window_days"),
            r"'fraud_window_days'; did you mean 'fraud_windows_days'\?",
        ),
        (SMALL + "[label]\nxyz = 1\n", r"here \[label\]: unknown key 'xyz'; known: delay_days"),
        (SMALL + "[label]\ndelay_days = 'a week'\n", r"here \[label\]: delay_days is 'a week', expected whole number"),
        (SMALL + "[label]\ndelay_days = -1\n", r"delay_days is -1, expected 0 to"),
        (SMALL + "[amount]\ndecimals = 5\n", r"here \[amount\]: decimals is 5, expected 0 to 4"),
        (SMALL + "[amount]\nrefunds = 1\n", r"here \[amount\]: refunds is 1, expected true or false"),
        (SMALL + "[amount]\ncurrency = 'EUR'\n", r"here \[amount\]: 'currency' cannot be set, .*Convert amounts"),
        (changed('label = "fraud"', 'label = "fraud"\ncurrency = "iso"'), r"\[columns\]: 'currency' cannot be set"),
        (
            SMALL + "[time]\nzone = 'Europe/Berln'\n",
            r"here \[time\]: the time zone 'Europe/Berln' is not known; did you mean 'Europe/Berlin'\?",
        ),
        (SMALL + "[time]\nzone = 1\n", r"here \[time\]: zone is 1, expected text"),
        (
            SMALL + "[time]\nformat = 'elapsed'\nzone = 'Europe/Berlin'\norigin = 2025-03-30T02:30:00\n",
            r"here \[time\]: origin is a time that clocks in Europe/Berlin skip",
        ),
        (SMALL + "[costs]\nmissed_fraud = true\n", r"here \[costs\]: missed_fraud is True, expected number"),
        (SMALL + "[time]\nformat = 'julian'\n", r"time.format is 'julian', expected one of iso, unix, elapsed"),
        (
            changed("[1, 7]", "[]"),
            r"here \[\[entity\]\]: 'windows_days' of 'card' is empty, expected e.g. \[1, 7, 30\]",
        ),
        (changed("[1, 7]", "7"), r"here \[\[entity\]\]: windows_days is 7, expected list"),
        (changed("[1, 7]", "[0, 7]"), r"windows are whole days from 1 to 366, found 0"),
        (changed("[1, 7]", "[1, '7']"), r"windows are whole days from 1 to 366, found '7'"),
        (changed("windows_days = [1, 7]\n", ""), r"here \[\[entity\]\]: the key 'windows_days' is missing"),
        (changed('"card_no"', '"value"'), r"here: the column 'value' is named twice"),
        (changed('"distance"', '"card"'), r"here: the entity, extra column or feature 'card' is named twice"),
        (
            changed('column = "card_no"', 'column = "card_no"\ncolumns = ["card_no"]'),
            r"here \[\[entity\]\]: 'card' has both 'column' and 'columns'",
        ),
        (changed('column = "card_no"', "columns = []"), r"here \[\[entity\]\]: 'columns' of 'card' is empty"),
        (
            changed('column = "card_no"', "columns = [1]"),
            r"columns has 1, expected a list of texts",
        ),
        (changed('column = "card_no"', 'columns = ["a", "a"]'), r"here \[\[entity\]\]: columns has 'a' twice"),
        (changed('column = "card_no"', ""), r"here \[\[entity\]\]: the key 'column' is missing"),
        (
            paired('"shop_no", "channel", "till"', '"shop_no", "card_no"'),
            r"here: the entities 'visitor' and 'shopper' are both identified by card_no, shop_no; keep one",
        ),
        (paired('"card_no", "shop_no"', '"card_no"'), r"'card' and 'visitor' are both identified by card_no; keep one"),
        (
            paired('name = "visitor"', 'name = "card"'),
            r"here: the entity, extra column or feature 'card' is named twice",
        ),
        (paired('"till"', '"distance"'), r"here: the column 'distance' is named twice"),
        (paired('"till"', '"kind"'), r"here: the column 'kind' is named twice"),
        (paired('"till"', '"card"'), r"here: the entity, extra column or feature 'card' is named twice"),
        (paired('"till"', '"the till"'), r"'the till' cannot name a feature: .*; or give it an entity of its own"),
        (paired('"till"', '"Visitor_Count_7d"'), r"would be called 'visitor_count_7d'; rename"),
        (changed('"distance"', '"hour"'), r"here: 'hour' cannot name a feature"),
        (changed('"distance"', '"how far"'), r"here: 'how far' cannot name a feature"),
        (changed('["chip", "online"]', "[]"), r"here: a categorical column lists its known values"),
    ],
)
def test_errors_name_the_key_the_value_and_what_was_expected(text: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        parse(text, "here")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (changed('amount = "value"', 'ammount = "value"'), r"here \[columns\].*ammount"),
        (changed("[1, 7]", "[true, 7]"), r"windows are whole days from 1 to 366, found True"),
        (changed("[1, 7]", "[7, 7]"), r"here \[\[entity\]\]"),
        (changed('["distance"]', "[1]"), r"here: numeric"),
        (changed('["chip", "online"]', '"chip"'), r"here.*channel"),
        (changed('["chip", "online"]', "3"), r"here.*channel"),
        ('entity = ["card"]\n' + SMALL.split("[[entity]]")[0], r"here.*entity"),
        (changed('time = "at"', 'time = ""'), r"here \[columns\]: time"),
        (SMALL + "[amount]\nmaximum = 1e18\n", r"here \[amount\]: maximum"),
        (changed('"distance"', '"card_count_7d"'), r"here.*'card_count_7d'"),
    ],
)
def test_values_of_the_wrong_type_are_bad_input(text: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        parse(text, "here")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            changed('amount = "value"', 'ammount = "value"'),
            r"'amount' is missing .*; did you mean 'ammount', which",
        ),
        (changed('["chip", "online"]', '["chip", "chip "]'), r"here \[categorical\]: channel has 'chip' twice"),
        (
            changed('["chip", "online"]', "[1, 1.5]"),
            r"here \[categorical\]: channel has 1\.5, expected a list of texts",
        ),
        (changed('["chip", "online"]', "[true, false]"), r"channel has True, expected a list of texts"),
        (changed('["distance"]', '["distance", ""]'), r"here: numeric has '', expected a list of texts"),
        (changed('"distance"', '"Hour"'), r"here: 'Hour' cannot name a feature"),
        (changed('"distance"', '"content"'), r"here: 'content' cannot name a feature"),
        (changed('"distance"', '"Card_Count_7d"'), r"would be called 'card_count_7d'; rename"),
        (SMALL + "[label]\ndelay_days = 1000\n", r"here \[label\]: delay_days is 1000, expected 0 to 366"),
        (SMALL + "[costs]\nmissed_fraud = inf\n", r"here \[costs\]: missed_fraud is inf, expected 0 or more"),
        (SMALL + "[amount]\nmaximum = nan\n", r"here \[amount\]: maximum is nan, expected 0 to 100000"),
        (SMALL + "[time]\norigin = 2013-09-01\n", r"here \[time\]: origin is .*, expected date and time"),
        (
            declaring("x", "amount / card.cuont_7d"),
            r"here: feature 'x', character 10 .*'card.cuont_7d'; did you mean 'card.count_7d'",
        ),
        (declaring("x", "y + 1") + declaring("y", "amount"), r"feature 'x', character 1 .*unknown name 'y'"),
        (declaring("card_count_7d", "amount"), r"would be called 'card_count_7d'; rename"),
        (declaring("amount", "distance"), r"here: 'amount' cannot name a feature"),
        (declaring("distance", "amount"), r"the entity, extra column or feature 'distance' is named twice"),
        (declaring("x", "amount", "{value.real}"), r"here, 'says' of the feature 'x': the only field is the value"),
        (declaring("x", "amount") + "unit = 'km'\n", r"here \[\[feature\]\]: unknown key 'unit'"),
    ],
)
def test_nonsensical_values_are_refused(text: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        parse(text, "here")


def test_an_entity_of_tiles_has_what_its_contract_lists() -> None:
    entries = (
        '["amount", "extremes", "recency", "distinct:till", "distinct: channel", "share:channel", "last:distance"]'
    )
    card = parse(tiled(entries, more="busy = true")).entities[0]
    texts = ["count", *tomllib.loads(f"x = {entries}")["x"]]
    assert [each.text for each in card.aggregates] == [text.replace(": ", ":") for text in texts]
    assert (card.windows, card.fraud_windows, card.busy, card.whole_days) == (("10m", "7d"), ("7d",), True, False)
    assert [each.text for each in parse(tiled()).entities[0].aggregates] == ["count", "amount"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (tiled(windows="[]"), r"'windows' of 'card' is empty, expected e.g. \['1h', '1d', '30d'\]"),
        (tiled(windows="[7]"), r"windows has 7 is no length of time; write minutes, hours or days"),
        (tiled(windows='["7m"]'), r"windows has '7m' is not a multiple of 5 minutes"),
        (tiled(windows='["750m"]'), r"windows has '750m' is not a multiple of an hour"),
        (tiled(windows='["300h"]'), r"windows has '300h' is not a multiple of a day"),
        (tiled(windows='["367d"]'), r"windows has '367d' is not between '5m' and '366d'"),
        (tiled(windows='["24h", "1d"]'), r"windows has '1d' twice"),
        (tiled(frauds='["30m"]'), r"fraud_windows has '30m'; a window over frauds is an hour or longer"),
        (tiled(frauds='["6h", "30d"]'), r"fraud_windows has '6h', which is no multiple of a day, the tile of '30d'"),
        (
            tiled(more="windows_days = [1]"),
            r"'card' has 'windows_days' and 'windows'; write windows_days = \[1, 7\] as",
        ),
        (tiled(more='busy = "yes"'), r"busy is 'yes', expected true or false"),
        (tiled('["median"]'), r"aggregates has 'median', expected one of count, amount, extremes, recency, share:"),
        (tiled('["share"]'), r"aggregates has 'share', expected 'share:<column>'"),
        (tiled('["count:channel"]'), r"aggregates has 'count:channel', expected 'count'"),
        (tiled('["amount", "amount"]'), r"aggregates has 'amount' twice"),
        (
            tiled('["share:distance"]'),
            r"here: aggregates of 'card' has 'share:distance', but 'share' is for categorical columns: channel$",
        ),
        (
            tiled('["last:channel"]'),
            r"aggregates of 'card' has 'last:channel', but 'last' is for numeric columns: distance$",
        ),
        (
            tiled('["distinct:distance"]'),
            r"'distinct:distance', but 'distinct' is for columns that identify other entities and categorical columns: "
            "the shop, till, channel$",
        ),
        (tiled('["distinct:card_no"]'), r"'distinct:card_no', but 'card_no' identifies 'card' itself$"),
        (tiled('["distinct:the shop"]'), r"'the shop' cannot be part of a feature's name: use letters, digits and _$"),
        (tiled('["last:distance", "last: distance"]'), r"aggregates has 'last:distance' twice"),
    ],
)
def test_windows_and_aggregates_that_do_not_fit_are_refused_with_what_is_allowed(text: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        parse(text, "here")


@pytest.mark.parametrize("decimals", [0, 2, 4])
def test_sums_of_nine_million_of_the_largest_amounts_fit_into_64_bits(decimals: int) -> None:
    contract = parse(SMALL + f"[amount]\ndecimals = {decimals}\nmaximum = {10**12 / 10**decimals}\n")
    largest = round(contract.amount_maximum * contract.minor_units)
    assert 9_000_000 * largest < 2**63
    with pytest.raises(BadInput, match="maximum is"):
        parse(SMALL + f"[amount]\ndecimals = {decimals}\nmaximum = {10**12 / 10**decimals + 1}\n")
    assert parse(SMALL + f"[amount]\ndecimals = {decimals}\n").amount_maximum <= 10**12 / 10**decimals


def test_categories_are_text_and_compared_as_text() -> None:
    contract = parse(changed('["chip", "online"]', '[1, "2", 30]'))
    assert contract.categorical == {"channel": ("1", "2", "30")}
    encoded = FeatureSet(contract).encode({"distance": [0] * 5, "channel": [1, "1", 2, "30", None]}, 5)
    assert encoded[:4, 1].tolist() == [0.0, 0.0, 1.0, 2.0]
    assert encoded[4, 1] != encoded[4, 1]


def test_a_file_that_is_not_utf8_is_bad_input(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(changed('"small"', '"größe"').encode("latin-1"))
    with pytest.raises(BadInput, match=r"mine\.toml"):
        load(path)


def test_the_documentation_has_a_valid_example_and_lists_every_shipped_contract() -> None:
    text = (SHIPPED / "README.md").read_text(encoding="utf-8")
    start = text.index('    name = "mine"')
    lines = takewhile(lambda line: not line or line.startswith("    "), text[start:].splitlines())
    assert parse(dedent("\n".join(lines))).columns == (
        "txn",
        "booked_at",
        "eur",
        "iban",
        "distance_km",
        "channel",
        "chargeback",
    )
    assert all(f"({name}.toml)" in text for name in shipped())
