"""How features read as reasons: each has its own words, of the entity, the window and the value."""

import math
from dataclasses import replace

import numpy as np
import pytest
from every_aggregate import CONTRACT as EVERYTHING

from processing.contract import Contract, Entity
from processing.contracts import reader as contracts
from processing.features.feature_set import FeatureSet
from serving.decision.reasons import Reasons, from_text, to_text

CONTRACT = contracts.load("transactions")
NAMES = FeatureSet(CONTRACT).names
EVERY_CONTRACT = [*map(contracts.load, contracts.shipped()), EVERYTHING]


def texts_of(contract: Contract, **contributions: float) -> list[str]:
    """The texts for a row in which the value of each feature is its index."""
    names = FeatureSet(contract).names
    weights = [contributions.get(name, 0.0) for name in names]
    return [reason.text for reason in Reasons(contract, names).of([float(i) for i in range(len(names))], weights)]


@pytest.mark.parametrize(
    ("feature", "value", "text"),
    [
        ("amount", 1234.5, "amount 1,234.50"),
        ("hour", 23.0, "between 23:00 and 00:00 UTC"),
        ("weekend", 1.0, "on a weekend"),
        ("customer_count_1d", 12.0, "12 transactions of this customer in 1 day"),
        ("terminal_count_30d", 1.0, "this terminal's first transaction in 30 days"),
        ("customer_mean_amount_7d", 20.0, "this customer's mean amount 20.00 over 7 days"),
        ("customer_amount_ratio_30d", 9.31, "amount 9.3x this customer's 30-day mean"),
        ("customer_amount_ratio_30d", math.nan, "no earlier amount of this customer in 30 days"),
        ("customer_amount_zscore_30d", -2.0, "amount 2.0 standard deviations below this customer's 30-day mean"),
        ("customer_amount_variation_7d", 0.5, "this customer's amounts over 7 days vary by 50 % of their mean"),
        (
            "customer_amount_trend_7d",
            3.14,
            "this customer's mean amount over 7 days is 3.1x that of the days before",
        ),
        ("terminal_fraud_count_1d", 1.0, "1 known fraud at this terminal over 1 day"),
        ("terminal_fraud_rate_7d", 0.12, "terminal's fraud rate 12 % over 7 days"),
        ("channel", 2.0, "channel online"),
        ("channel", math.nan, "channel missing or unlisted"),
    ],
)
def test_reasons_describe_the_value(feature: str, value: float, text: str) -> None:
    values = [value if name == feature else 0.0 for name in NAMES]
    (reason,) = Reasons(CONTRACT, NAMES).of(values, [float(name == feature) for name in NAMES])
    assert (reason.text, reason.feature, reason.weight) == (text, feature, 1.0)


@pytest.mark.parametrize(
    ("feature", "value", "text"),
    [
        ("count_7d", 1.0, "the first transaction of this customer at this terminal in 7 days"),
        ("count_7d", 3.0, "3 transactions of this customer at this terminal in 7 days"),
        ("amount_ratio_7d", 9.31, "amount 9.3x the 7-day mean of this customer at this terminal"),
        ("fraud_count_7d", 2.0, "2 known frauds of this customer at this terminal over 7 days"),
        ("fraud_rate_7d", 0.5, "the fraud rate 50 % of this customer at this terminal over 7 days"),
    ],
)
@pytest.mark.parametrize("alone", [True, False])
def test_describe_a_pair_by_what_its_columns_identify(feature: str, value: float, text: str, alone: bool) -> None:
    """Whether or not the terminal is an entity of its own."""
    pair = Entity("visitor", ("customer_id", "terminal_id"), ("7d",), ("7d",), whole_days=True)
    contract = replace(CONTRACT, entities=(*CONTRACT.entities[: 2 if alone else 1], pair))
    (reason,) = Reasons(contract, [f"visitor_{feature}"]).of([value], [1.0])
    assert reason.text == text


@pytest.mark.parametrize(
    ("feature", "value", "text"),
    [
        ("customer_count_10m", 3.0, "3 transactions of this customer in 10 minutes"),
        ("customer_count_6h", 1.0, "this customer's first transaction in 6 hours"),
        ("customer_amount_ratio_10m", 9.31, "amount 9.3x this customer's 10-minute mean"),
        ("customer_amount_trend_6h", 2.0, "this customer's mean amount over 6 hours is 2.0x that of the time before"),
        ("customer_amount_max_30d", 9.5, "this customer's largest earlier amount 9.50 in 30 days"),
        ("customer_amount_min_1d", 1.0, "this customer's smallest earlier amount 1.00 in 1 day"),
        ("customer_amount_min_1d", math.nan, "no earlier amount of this customer in 1 day"),
        ("customer_hours_since_last", 1 / 120, "this customer's last transaction was less than a minute ago"),
        ("customer_hours_since_last", 0.1, "this customer's last transaction was 6 minutes ago"),
        ("customer_hours_since_last", 5.0, "this customer's last transaction was 5 hours ago"),
        ("customer_hours_since_last", math.nan, "no earlier transaction of this customer in 30 days"),
        ("visitor_hours_since_last", 72.0, "the last transaction of this customer at this terminal was 3 days ago"),
        ("customer_hours_since_first_30d", 240.0, "this customer's first transaction in 30 days was 10 days ago"),
        (
            "customer_share_channel_6h",
            0.4,
            "40 % of this customer's earlier transactions in 6 hours had the same channel",
        ),
        ("customer_share_channel_6h", math.nan, "no earlier transaction of this customer in 6 hours"),
        (
            "customer_distinct_terminal_id_1d",
            5.0,
            "5 different terminals in this customer's earlier transactions over 1 day",
        ),
        (
            "customer_distinct_terminal_id_10m",
            1.0,
            "1 different terminal in this customer's earlier transactions over 10 minutes",
        ),
        (
            "terminal_distinct_channel_7d",
            33.0,
            "more than 32 different channels in this terminal's earlier transactions over 7 days",
        ),
        ("customer_last_lat", 48.25, "lat 48.25 at this customer's last transaction"),
        ("visitor_last_lat", math.nan, "lat unknown at the last transaction of this customer at this terminal"),
        ("terminal_fraud_count_6h", 2.0, "2 known frauds at this terminal over 6 hours"),
        ("terminal_fraud_rate_6h", 0.125, "terminal's fraud rate 12.5 % over 6 hours"),
        (
            "customer_hours_since_last_fraud_30d",
            5.0,
            "last known fraud at this customer in 30 days became known 5 hours ago",
        ),
        ("customer_hours_since_first_fraud_30d", math.nan, "no known fraud at this customer over 30 days"),
    ],
)
def test_minutes_hours_and_every_aggregate_read_as_reasons(feature: str, value: float, text: str) -> None:
    assert feature in FeatureSet(EVERYTHING).names
    (reason,) = Reasons(EVERYTHING, [feature]).of([value], [1.0])
    assert reason.text == text


def test_hours_since_a_fraud_read_as_before_in_a_contract_of_whole_days() -> None:
    (reason,) = Reasons(CONTRACT, ["terminal_hours_since_last_fraud_30d"]).of([240.0], [1.0])
    assert reason.text == "last known fraud at this terminal in 30 days was 10 days ago"


@pytest.mark.parametrize(
    "contract", [*map(contracts.load, contracts.shipped()), EVERYTHING], ids=lambda each: each.name
)
def test_every_feature_and_value_has_a_reason_text(contract: Contract) -> None:
    names = FeatureSet(contract).names
    reasons = Reasons(contract, names)
    for value in (0.0, 1.0, math.nan):
        for i, feature in enumerate(names):
            if not (math.isnan(value) and feature in ("hour", "weekend")):  # which always have a value
                (reason,) = reasons.of([value] * len(names), np.eye(len(names))[i].tolist())
                own_words = {"amount", "weekend", *contract.numeric, *contract.categorical}
                assert feature in own_words or feature.replace("_", " ") not in reason.text


def test_only_the_strongest_feature_of_a_topic_gives_a_reason() -> None:
    texts = texts_of(CONTRACT, customer_count_1d=0.4, customer_count_7d=0.5, amount=0.8, customer_count_30d=-0.05)
    assert texts == ["5 transactions of this customer in 7 days", "amount 0.00"]


def test_at_most_three_reasons_are_given_and_only_for_fraud() -> None:
    weights = {"amount": 1.0, "hour": 2.0, "customer_count_1d": 3.0, "terminal_count_1d": 4.0, "channel": -9.0}
    assert len(texts_of(CONTRACT, **weights)) == 3
    assert texts_of(CONTRACT, channel=-1.0) == []


def test_an_unknown_feature_is_described_by_its_name() -> None:
    (reason,) = Reasons(CONTRACT, ["night_share"]).of([0.25], [1.0])
    assert reason.text == "night share 0.25"


def test_reasons_can_be_read_back_from_the_store() -> None:
    reasons = Reasons(CONTRACT, NAMES).of([1.0] * len(NAMES), [1.0] * len(NAMES))
    assert tuple(from_text(to_text(reasons))) == reasons


def test_a_declared_feature_reads_as_its_contract_says() -> None:
    contract = contracts.parse(
        CONTRACT.text
        + """
[[feature]]
name = "against_mean"
is = "amount / customer.mean_amount_30d"
says = "{value:.1f}x this customer's mean payment"

[[feature]]
name = "online_hours"
is = "where(channel == 'online', hour, 0)"
"""
    )
    names = FeatureSet(contract).names
    values, weights = [0.0] * len(names), [0.0] * len(names)
    values[-2:], weights[-2:] = [9.26, 3.0], [2.0, 1.0]
    texts = [reason.text for reason in Reasons(contract, names).of(values, weights)]
    assert texts == ["9.3x this customer's mean payment", "online hours 3"]


def test_the_hour_is_that_of_the_zone_which_the_contract_names() -> None:
    local = replace(CONTRACT, time_zone="Europe/Berlin")
    assert texts_of(local, hour=1.0) == ["between 01:00 and 02:00 in Europe/Berlin"]  # its index is its value
