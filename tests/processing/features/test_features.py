"""The features: the same bits for one row as for many, and defined values where a divisor is zero."""

import math
from datetime import UTC, datetime
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from processing.arrays import Floats, Ints
from processing.contract import LARGEST_MINOR
from processing.contracts.reader import load, parse
from processing.durations import HOUR_US
from processing.errors import BadInput
from processing.features.contract_windows import fraud_tile
from processing.features.feature_set import FeatureSet, minor_units
from processing.features.fraud_windows import NEVER, Labels
from processing.features.windows import Events

TRANSACTIONS = FeatureSet(load("transactions"))
SPARKOV = FeatureSet(load("sparkov"))
DECLARED = FeatureSet(
    parse(
        load("sparkov").text
        + """
[[feature]]
name = "km"
is = "distance_km(lat, long, merch_lat, merch_long)"

[[feature]]
name = "far_for_the_card"
is = "where(category == 'travel' or amount > card.mean_amount_7d, km * card.count_7d / store.count_1d, 0)"
says = "{value:.1f} payments times kilometres"
"""
    )
)


def state_of(features: FeatureSet, entity: Ints, time_us: Ints, amount: Ints, fraud: Ints) -> Ints:
    """Every entity's state, as if all entities had the same codes."""
    states = [np.zeros((len(entity), 0), np.int64)]
    frauds = fraud > 0
    for windows in features.windows.values():
        known = fraud_tile(windows, time_us[frauds], None)
        labels = Labels(entity[frauds], known, np.full(len(known), NEVER), amount[frauds])
        states.append(windows.states(Events(entity, time_us, amount, {}), labels))
    return np.concatenate(states, axis=1)


def computed(amounts: list[int], hours: list[int], features: FeatureSet = TRANSACTIONS) -> dict[str, Floats]:
    """The features by name of one customer's events at these hours since 1970, no frauds."""
    amount, time_us = np.array(amounts, np.int64), np.array(hours, np.int64) * HOUR_US
    nothing = np.zeros_like(amount)
    state = state_of(features, nothing, time_us, amount, nothing)
    extras = np.full((len(amount), len(features.contract.numeric) + len(features.contract.categorical)), np.nan)
    return dict(zip(features.names, features.compute(amount, time_us, state, extras).T, strict=True))


@pytest.mark.parametrize(
    "features", [*(FeatureSet(load(name)) for name in ("transactions", "handbook", "sparkov", "ulb")), DECLARED]
)
def test_features_of_a_single_row_equal_those_computed_with_many_to_the_bit(features: FeatureSet) -> None:
    random, n = np.random.default_rng(5), 2_000
    entity, fraud = random.integers(0, 40, n), random.integers(0, 2, n)
    time_us = random.integers(490_000 * HOUR_US, 491_500 * HOUR_US, n)
    amount = random.integers(-LARGEST_MINOR, LARGEST_MINOR, n) // 10 ** random.integers(0, 12, n)
    state = state_of(features, entity, time_us, amount, fraud)
    extras = random.normal(size=(n, len(features.contract.numeric) + len(features.contract.categorical)))
    together = features.compute(amount, time_us, state, extras)
    assert together.dtype == np.float64
    assert together.shape == (n, len(features.names))
    for i in range(n):
        row = slice(i, i + 1)
        for one in (
            features.compute(amount[row], time_us[row], state[row], extras[row]),
            features.compute_one(int(amount[i]), int(time_us[i]), state[i].tolist(), extras[row]),
        ):
            assert np.array_equal(one, together[row], equal_nan=True)
            assert one.tobytes() == together[row].tobytes()


@given(st.lists(st.integers(-LARGEST_MINOR, LARGEST_MINOR), min_size=1, max_size=20))
def test_no_value_is_infinite_and_only_comparisons_may_be_missing(amounts: list[int]) -> None:
    values = computed(amounts, [490_000 + 5 * i for i in range(len(amounts))])
    for name, column in values.items():
        assert not np.isinf(column).any(), name
        if not any(
            word in name for word in ("trend", "ratio", "zscore", "variation", "since", "fraud_mean", "channel")
        ):
            assert not np.isnan(column).any(), name


def test_squares_in_a_busy_window_have_the_same_bits_for_one_row_as_for_many() -> None:
    """A hundred thousand squares of the largest amounts: their limbs do not fit together into 64 bits."""
    names, largest = TRANSACTIONS.state_names, 10**12
    state = np.zeros((1, len(names)), np.int64)
    values = {"n": 100_000, "s": 10**16, "q0": 10**5 * 2**26, "q1": 10**5 * 2**26, "q2": 10**5 * 2**25}
    state[0] = [values.get(name.split(":")[1].split("_")[0], 0) for name in names]
    amount, time_us, extras = np.array([largest]), np.array([490_000 * HOUR_US]), np.zeros((1, 1))
    one = TRANSACTIONS.compute_one(largest, int(time_us[0]), state[0].tolist(), extras)
    assert one.tobytes() == TRANSACTIONS.compute(amount, time_us, state, extras).tobytes()
    assert one[0, TRANSACTIONS.names.index("customer_amount_zscore_30d")] > 0.0


largest = st.integers(-LARGEST_MINOR, LARGEST_MINOR) | st.integers(-300, 300)


@given(st.lists(largest, min_size=1, max_size=12), largest)
@example([100, 300], LARGEST_MINOR)  # which does not blur how much the others vary
@example([-500, -700, -100], 400)  # refunds alone have no mean that an amount is a multiple of
@example([500, -500], 10)
def test_comparisons_follow_their_definitions_for_refunds_and_the_largest_amounts(others: list[int], own: int) -> None:
    values = computed([*others, own], [490_000 + i for i in range(len(others) + 1)])
    ratio, score, variation = (
        float(values[f"customer_amount_{kind}_30d"][-1]) for kind in ("ratio", "zscore", "variation")
    )
    mean = Fraction(sum(others), len(others))
    deviation = math.sqrt(Fraction(sum(each**2 for each in others), len(others)) - mean**2)
    blur = 2e-7 * max(map(abs, others)) + 1e-9  # of float64, whose squares have 53 bits
    assert ratio == pytest.approx(float(own / mean)) if mean > 0 else math.isnan(ratio)
    if len(others) == 1:
        assert math.isnan(score)
        assert math.isnan(variation)
        return
    below, above = sorted(float(own - mean) / (deviation + by + 100) for by in (-min(blur, deviation), blur))
    slack = 1e-12 * max(abs(below), abs(above), abs(own) / 100, abs(float(mean)) / 100)
    assert below - slack <= score <= above + slack
    if mean > 0:
        assert variation == pytest.approx(deviation / mean, rel=1e-9, abs=blur / float(mean))
    else:
        assert math.isnan(variation)
    assert values["customer_mean_amount_30d"][-1] == pytest.approx((sum(others) + own) / (len(others) + 1) / 100)


def test_values_match_their_names() -> None:
    start = 490_000
    values = computed([1000, 3000, 500], [start, start + 30, start + 31])
    assert values["amount"].tolist() == [10.0, 30.0, 5.0]
    assert values["customer_count_1d"].tolist() == [1.0, 1.0, 2.0]
    assert values["customer_count_7d"].tolist() == [1.0, 2.0, 3.0]
    assert values["customer_mean_amount_1d"].tolist() == [10.0, 30.0, 17.5]
    assert values["customer_mean_amount_7d"].tolist() == [10.0, 20.0, 15.0]
    nan = np.nan
    assert np.array_equal(values["customer_amount_trend_1d"], [nan, nan, 3.0], equal_nan=True)  # 30 after 10
    assert np.isnan(values["customer_amount_trend_7d"]).all()  # nothing is older
    # Against the mean of the others.
    assert np.array_equal(values["customer_amount_ratio_1d"], [nan, nan, 5.0 / 30.0], equal_nan=True)
    assert np.array_equal(values["customer_amount_ratio_30d"], [nan, 3.0, 0.25], equal_nan=True)
    # The others are 10 and 30: mean 20, deviation 10, and one unit of currency against tiny deviations.
    assert np.array_equal(values["customer_amount_zscore_30d"], [nan, nan, (5.0 - 20.0) / 11.0], equal_nan=True)
    assert np.array_equal(values["customer_amount_variation_30d"], [nan, nan, 0.5], equal_nan=True)
    assert values["terminal_fraud_rate_30d"].tolist() == [0.0, 0.0, 0.0]


def test_fraud_rates_count_known_labels_only() -> None:
    hours = np.array([0, 1, 2, 7 * 24 + 2, 7 * 24 + 3]) + 490_000
    zeros = np.zeros(5, np.int64)
    fraud = np.array([1, 0, 1, 1, 1])
    amount = zeros + np.array([100, 100, 300, 100, 100])
    state = state_of(TRANSACTIONS, zeros, hours * HOUR_US, amount, fraud)
    computed_values = TRANSACTIONS.compute(amount, hours * HOUR_US, state, np.zeros((5, 1)))
    values = dict(zip(TRANSACTIONS.names, computed_values.T, strict=True))
    assert values["terminal_fraud_count_1d"].tolist() == [0.0, 0.0, 0.0, 1.0, 2.0]
    assert values["terminal_fraud_rate_1d"].tolist() == [0.0, 0.0, 0.0, 1 / 2, 2 / 3]
    assert values["terminal_fraud_mean_amount_1d"][3:].tolist() == [1.0, 2.0]
    assert np.isnan(values["terminal_fraud_mean_amount_1d"][:3]).all()


def test_fraud_recency_gives_the_hours_since_the_first_and_last_known_fraud_and_the_events_since() -> None:
    """Events in hours 0, 5, 5, 6 and 30, frauds in 0 and 5; later probes know of none, then of more and more."""
    week = 7 * 24
    hours = np.array([0, 5, 5, 6, 30, week, week + 1, week + 6, week + 31, week + 30 * 24 + 2]) + 490_000
    fraud = np.array([1, 1, 0, 0, 0, 0, 0, 0, 0, 0])
    zeros = np.zeros(len(hours), np.int64)
    state = state_of(TRANSACTIONS, zeros, hours * HOUR_US, zeros + 100, fraud)
    computed_values = TRANSACTIONS.compute(zeros + 100, hours * HOUR_US, state, np.zeros((len(hours), 1)))
    values = dict(zip(TRANSACTIONS.names, computed_values[5:].T, strict=True))
    nan = np.nan
    first, last, after = (
        values[f"terminal_{name}_30d"]
        for name in ("hours_since_first_fraud", "hours_since_last_fraud", "count_since_last_fraud")
    )
    assert np.array_equal(first, [nan, week + 1, week + 6, week + 31, week + 30 * 24 - 3], equal_nan=True)
    assert np.array_equal(last, [nan, week + 1, week + 1, week + 26, week + 30 * 24 - 3], equal_nan=True)
    assert np.array_equal(after, [nan, 0.0, 0.0, 2.0, 6.0], equal_nan=True)


def test_hour_and_weekend_are_in_utc() -> None:
    moments = [datetime(2026, 3, day, 13, tzinfo=UTC) for day in range(2, 9)]  # Monday to Sunday
    values = computed([100] * 7, [int(moment.timestamp()) // 3600 for moment in moments])
    assert values["hour"].tolist() == [13.0] * 7
    assert values["weekend"].tolist() == [0.0] * 5 + [1.0] * 2


def test_a_first_event_has_counts_but_no_comparisons() -> None:
    values = computed([2500], [490_000])
    assert values["customer_count_30d"].tolist() == [1.0]
    assert values["customer_mean_amount_30d"].tolist() == [25.0]
    assert np.isnan(values["customer_amount_ratio_30d"]).all()
    assert np.isnan(values["customer_amount_zscore_30d"]).all()
    assert np.isnan(values["customer_amount_variation_30d"]).all()
    assert np.isnan(values["customer_amount_trend_1d"]).all()


def test_amounts_of_zero_cause_no_division_by_zero() -> None:
    values = computed([0, 0, 0, 100], [490_000, 490_001, 490_002, 490_003])
    assert values["customer_mean_amount_30d"].tolist() == [0.0, 0.0, 0.0, 0.25]
    assert np.isnan(values["customer_amount_ratio_30d"]).all()
    assert values["customer_amount_zscore_30d"][2:].tolist() == [0.0, 1.0]


def test_equal_amounts_have_no_negative_variance() -> None:
    values = computed([3333] * 50, list(range(490_000, 490_050)))
    assert values["customer_amount_zscore_30d"][2:].tolist() == [0.0] * 48
    assert values["customer_amount_variation_30d"][2:].tolist() == [0.0] * 48


def test_categories_are_encoded_by_position_and_unknown_or_missing_ones_as_nan() -> None:
    channels = ["online", "chip", None, "telepathy", "contactless", float("nan"), "", "Chip"]
    encoded = TRANSACTIONS.encode({"channel": channels}, len(channels))
    nan = np.nan
    assert np.array_equal(encoded[:, 0], [2.0, 0.0, nan, nan, 1.0, nan, nan, nan], equal_nan=True)
    assert np.array_equal(TRANSACTIONS.encode({"channel": np.array(["online", "x"])}, 2), [[2.0], [nan]], True)


def test_numbers_are_encoded_unchanged_and_missing_ones_as_nan() -> None:
    contract = SPARKOV.contract
    columns: dict[str, list[object]] = {name: [i + 0.5, None] for i, name in enumerate(contract.numeric)}
    columns |= {"gender": ["M", None], "category": ["home", "food_dining"]}
    encoded = SPARKOV.encode(columns, 2)
    assert encoded[0].tolist() == [0.5, 1.5, 2.5, 3.5, 4.5, 1.0, 6.0]
    assert np.isnan(encoded[1, :6]).all()
    assert encoded[1, 6] == 1.0


def test_a_contract_without_extra_columns_has_no_encoded_columns() -> None:
    assert FeatureSet(load("handbook")).encode({}, 4).shape == (4, 0)


def test_names_are_in_column_order_and_all_are_float64() -> None:
    assert TRANSACTIONS.names[:3] == ("amount", "hour", "weekend")
    assert TRANSACTIONS.names[-1] == "channel"
    assert TRANSACTIONS.dtypes == dict.fromkeys(TRANSACTIONS.names, "float64")
    assert len(TRANSACTIONS.names) == 50
    assert len(TRANSACTIONS.state_names) == 2 * 3 * 5 + 3 * 3 + 3
    assert TRANSACTIONS.state_names[15] == "terminal:n_1d"


def test_duplicate_feature_names_are_refused() -> None:
    text = load("transactions").text.replace("numeric = []", 'numeric = ["customer_count_7d"]')
    with pytest.raises(BadInput, match="'customer_count_7d'"):
        _ = FeatureSet(parse(text)).names


@given(st.integers(0, 10**7))
def test_cents_survive_conversion_to_floats(cents: int) -> None:
    assert minor_units(np.array([cents / 100.0]), load("transactions")).tolist() == [cents]


def test_a_declared_feature_is_computed_from_those_before_it() -> None:
    amount, time_us = np.array([500, 700], np.int64), np.array([490_000, 490_001], np.int64) * HOUR_US
    nothing = np.zeros_like(amount)
    state = state_of(DECLARED, nothing, time_us, amount, nothing)
    columns = {"city_pop": [1.0, 1.0], "gender": ["F", "F"], "category": ["travel", "home"]}
    columns |= {"lat": [0.0, 0.0], "long": [0.0, 0.0], "merch_lat": [0.0, 1.0], "merch_long": [90.0, 0.0]}
    values = DECLARED.compute(amount, time_us, state, DECLARED.encode(columns, 2))
    assert DECLARED.names[-2:] == ("km", "far_for_the_card")
    quarter, degree = np.pi / 2 * 6371.0088, np.pi / 180 * 6371.0088
    assert values[:, -2] == pytest.approx([quarter, degree])
    assert values[:, -1] == pytest.approx([quarter, degree])  # one payment at one; two by the card, two at the store


def test_a_declared_feature_is_missing_without_the_store_if_it_needs_it() -> None:
    extras = DECLARED.encode(
        {name: [1.0] for name in DECLARED.contract.numeric} | {"gender": [""], "category": [""]}, 1
    )
    row = dict(zip(DECLARED.names, DECLARED.compute_one(100, 0, None, extras)[0].tolist(), strict=True))
    assert row["km"] == 0.0
    assert np.isnan(row["far_for_the_card"])


def test_changing_only_the_words_of_a_declared_feature_changes_no_value() -> None:
    other = FeatureSet(parse(DECLARED.contract.text.replace("payments times", "times")))
    assert other.definition == DECLARED.definition
    assert FeatureSet(parse(DECLARED.contract.text.replace("'travel'", "'home'"))).definition != DECLARED.definition
    assert FeatureSet(load("sparkov")).definition == SPARKOV.definition
