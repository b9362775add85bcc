"""The monthly bill: it adds up, grows with the volumes, and names the source of each price."""

import json
from dataclasses import replace
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ordinary_decisions import usage_of_ordinary_decisions
from typer.testing import CliRunner

from pipeline.command.main import app
from pipeline.infrastructure.cost.bill import bill_document, monthly_bill
from pipeline.infrastructure.cost.prices import FILE, read_prices
from pipeline.infrastructure.cost.stack_sizes import read_sizes
from pipeline.infrastructure.cost.volumes import ASSUMED, Volumes
from processing.contracts import reader as contracts
from processing.errors import BadInput
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


def test_a_decision_uses_as_many_store_units_as_the_bill_assumes(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = usage_of_ordinary_decisions(contracts.load("transactions"), monkeypatch)[-300:]
    reads, writes = ([used.units for used in usage if used.operation == kind] for kind in ("read", "transaction"))
    assert len(reads) == len(writes) == 150
    assert sum(reads) / 150 == ASSUMED.read_units
    assert sum(writes) / 150 == pytest.approx(ASSUMED.write_units, abs=0.5)


def test_a_task_polls_for_a_new_model_as_often_as_the_bill_assumes() -> None:
    assert 1 / Settings().follow_seconds == ASSUMED.polls_per_second
    assert read_sizes().instance.startswith("ml.")
