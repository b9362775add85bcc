"""The monthly bill: it adds up, grows with the volumes, and names the source of each price."""

import json
from dataclasses import replace
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from pipeline.command.main import app
from pipeline.infrastructure.cost.bill import bill_document, monthly_bill
from pipeline.infrastructure.cost.prices import FILE, read_prices
from pipeline.infrastructure.cost.stack_sizes import read_sizes
from pipeline.infrastructure.cost.volumes import ASSUMED, Volumes
from processing.contracts import reader as contracts
from processing.errors import BadInput
from processing.store.dynamo.store import DynamoStore
from serving.settings import Settings

amounts = st.floats(0, 1e9)
volumes = st.builds(Volumes, amounts, amounts, amounts, amounts, amounts, amounts)
NAMES = ("transactions", "runs", "tasks", "data_gb", "feature_minutes", "training_minutes")


@given(volumes, st.sampled_from(NAMES), amounts)
def test_more_of_anything_never_costs_less(base: Volumes, name: str, more: float) -> None:
    larger = replace(base, **{name: getattr(base, name) + more})
    small, large = monthly_bill(base), monthly_bill(larger)
    for before, after in zip(small.lines, large.lines, strict=True):
        assert after.usd >= before.usd >= 0
    assert large.total() >= small.total() * (1 - 1e-12)


@given(volumes)
def test_kinds_services_and_lines_add_up_to_the_same_total(base: Volumes) -> None:
    bill = monthly_bill(base)
    document = bill_document(bill)
    total = pytest.approx(bill.total())
    assert sum(document[kind] for kind in ("standing", "runs", "transactions")) == total
    assert sum(document["services"].values()) == total
    assert sum(line["amount"] * document["prices"][line["price"]]["usd"] for line in document["lines"]) == total


def test_an_idle_system_has_standing_costs_only() -> None:
    """Without runs and transactions, Glue, SageMaker and decisions cost nothing; without tasks, Fargate does not."""
    idle = monthly_bill(Volumes(transactions=0, runs=0))
    assert idle.total("runs") == idle.total("transactions") == 0
    assert idle.total(service="Glue") == idle.total(service="SageMaker") == 0
    assert monthly_bill(Volumes(tasks=0)).total(service="Fargate") == 0
    assert {name for name in STACK_SERVICES if idle.total("standing", name) > 0} == STACK_SERVICES


STACK_SERVICES = {"Fargate", "Load balancer", "VPC endpoints", "CloudWatch", "KMS", "Secrets Manager", "S3", "ECR"}


def test_the_bill_matches_figures_computed_by_hand() -> None:
    """Computed by hand from the price list."""
    bill = monthly_bill(Volumes(transactions=0, runs=4, tasks=2, feature_minutes=30, training_minutes=15))
    assert bill.total(service="Fargate") == pytest.approx(2 * 730 * (0.04656 + 2 * 0.00511))
    assert bill.total(service="Glue") == pytest.approx(4 * 0.5 * 10 * 0.44)
    assert bill.total(service="VPC endpoints") == pytest.approx(4 * 2 * 730 * 0.012)
    [training] = [line for line in bill.lines if line.what == "training and evaluation"]
    assert training.usd == pytest.approx(4 * 2 * 0.25 * 0.276)


def test_each_alternative_is_compared_with_what_it_would_replace() -> None:
    bill = monthly_bill(Volumes(runs=2, tasks=3))
    by_name = {other.name: other for other in bill.alternatives()}
    assert by_name["EMR, 3 x m5.xlarge left on"].ours_usd == pytest.approx(bill.total(service="Glue"))
    assert by_name["EMR, 3 x m5.xlarge left on"].usd > 100 * by_name["EMR, 3 x m5.xlarge left on"].ours_usd
    assert by_name["SageMaker endpoint, 3 x ml.m5.large"].usd == pytest.approx(3 * 730 * 0.138)
    assert by_name["EKS, 3 pods on Fargate"].usd - by_name["EKS, 3 pods on Fargate"].ours_usd == pytest.approx(73)


def test_every_price_is_used_and_has_a_date_and_a_source() -> None:
    prices = read_prices("eu-central-1")
    lines = {line.price for line in monthly_bill(Volumes()).lines}
    compared = {"ml_m5_large_endpoint", "eks_hour", "ec2_t3_small", "ebs_gb", "ec2_m5_xlarge", "emr_m5_xlarge"}
    assert set(prices) == lines | compared
    for price in prices.values():
        assert price.usd > 0
        assert price.unit
        assert isinstance(price.date, date)
        assert price.source.startswith("https://aws.amazon.com/")
        assert "pricing" in price.source


def test_a_region_without_prices_is_refused() -> None:
    with pytest.raises(BadInput, match=r"no prices for the region 'mars-north-1': use one of eu-central-1"):
        monthly_bill(Volumes(), "mars-north-1")
    assert FILE.name == "prices.toml"


@pytest.mark.parametrize("wrong", [-1.0, float("nan"), float("inf")])
def test_an_impossible_volume_is_refused_with_the_name_of_its_option(wrong: float) -> None:
    with pytest.raises(BadInput, match="--feature-minutes is"):
        Volumes(feature_minutes=wrong)


def test_the_command_prints_the_bill_and_its_json() -> None:
    result = CliRunner().invoke(app, ["cost", "--runs", "0"])
    assert result.exit_code == 0
    assert "A run costs" not in result.output
    assert "at list prices of" in " ".join(result.output.split())
    printed = CliRunner().invoke(app, ["cost", "--transactions", "3e6", "--json"])
    document: dict[str, Any] = json.loads(printed.output)
    assert document == bill_document(monthly_bill(Volumes(transactions=3e6)))


@pytest.mark.cloud
def test_a_decision_uses_as_many_store_units_as_the_bill_assumes(online_table: str) -> None:
    from datetime import UTC, datetime

    from processing.store.decisions import Decision, Event

    store = DynamoStore(online_table, contracts.load("transactions"))
    reads: list[int] = []
    writes: list[int] = []

    def note(params: dict[str, Any], **_: Any) -> None:
        for table in params.get("RequestItems", {}).values():
            reads.append(len(table["Keys"]))
            assert table["ConsistentRead"] is True
        if "TransactItems" in params:
            writes.append(len(params["TransactItems"]))

    store.calls.dynamodb.meta.events.register("provide-client-params.dynamodb.*", note)
    for hour in range(24):
        when = datetime(2026, 7, 2, hour, 5 + hour * 2, tzinfo=UTC)
        event = Event(f"t{hour}", int(when.timestamp() * 1e6), 100, ("c", "t"))
        store.recall(event)
        store.record(Decision(event, "legit", 0.1, 0.5, "v", b"", when))
    assert sum(reads) / 24 == pytest.approx(ASSUMED.read_units, abs=2)
    assert {2 * items + 1 for items in writes} == {ASSUMED.write_units}  # two units each, plus one for the index


def test_a_task_polls_for_a_new_model_as_often_as_the_bill_assumes() -> None:
    assert 1 / Settings().follow_seconds == ASSUMED.polls_per_second
    assert read_sizes().instance.startswith("ml.")
