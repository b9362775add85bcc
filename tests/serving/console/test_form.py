"""The form for a transaction offers what the API accepts."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from processing.contract import Contract
from processing.contracts.reader import load
from processing.features.feature_set import FeatureSet
from serving.api.transaction import to_event, transaction_model
from serving.console.form import inputs, transaction_of

SHOP = load("transactions")


def shown(contract: Contract) -> dict[str, Any]:
    return {each.name: each for each in inputs(contract)}


@pytest.mark.parametrize("zone", [None, "Asia/Kathmandu", "America/Phoenix"])
def test_the_time_that_the_form_shows_is_now_on_clocks_of_the_zone_that_it_names(zone: str | None) -> None:
    contract = replace(SHOP, time_zone=zone)
    fields = shown(contract)
    assert fields["event_time"].label == f"Time ({zone or 'UTC'})"
    row = transaction_of(contract, {name: each.value for name, each in fields.items()})
    event, _ = to_event(transaction_model(contract).model_validate(row), contract, FeatureSet(contract))
    assert abs(event.time_us / 1e6 - datetime.now(UTC).timestamp()) < 60.0


def test_the_form_takes_refunds_where_the_contract_does() -> None:
    bounds = [
        (shown(contract)["amount"].minimum, shown(contract)["amount"].maximum)
        for contract in (SHOP, replace(SHOP, refunds=True))
    ]
    assert bounds == [("0", "100000"), ("-100000", "100000")]
