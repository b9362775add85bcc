"""`fraudline cost`: what a month in AWS costs."""

import json
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from pipeline.command.options import JsonOption

if TYPE_CHECKING:
    from pipeline.infrastructure.cost.bill import Bill


def cost(
    transactions: Annotated[float, typer.Option(help="Transactions scored per month.")] = 1_000_000,
    runs: Annotated[float, typer.Option(help="Pipeline runs per month.")] = 1,
    tasks: Annotated[float, typer.Option(help="API tasks, running all the time.")] = 2,
    data_gb: Annotated[float, typer.Option(help="Data stored in the home, in GB.")] = 100,
    feature_minutes: Annotated[float, typer.Option(help="Duration of a run's feature job.")] = 15,
    training_minutes: Annotated[
        float, typer.Option(help="Duration of a run's training, and again of its evaluation.")
    ] = 10,
    region: Annotated[
        str, typer.Option(help="AWS region; pipeline/infrastructure/cost/prices.toml must have its prices.")
    ] = "eu-central-1",
    as_json: JsonOption = False,
) -> None:
    """Compute what the deployed system costs per month, by service, and what alternatives would cost.

    Example: fraudline cost --transactions 30000000 --runs 4 --tasks 3
    """
    from pipeline.infrastructure.cost.bill import bill_document, monthly_bill
    from pipeline.infrastructure.cost.volumes import Volumes

    volumes = Volumes(transactions, runs, tasks, data_gb, feature_minutes, training_minutes)
    bill = monthly_bill(volumes, region)
    if as_json:
        typer.echo(json.dumps(bill_document(bill), indent=2))
        return
    console = Console()
    console.print(_by_service(bill))
    console.print()
    console.print(_alternatives(bill))
    for other in bill.alternatives():
        console.print(f"  {other.name}: {other.note}", style="dim", highlight=False, soft_wrap=True)
    dates = sorted(price.date for price in bill.prices.values())
    known = f"{dates[0]}" if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"
    per_run = f" A run costs {_usd(bill.total('runs') / runs)}." if runs else ""
    console.print(
        "\nStanding costs are paid whether or not anything happens; most of them remain without API tasks (--tasks 0)."
        f"{per_run}\n"
        f"US dollars per month in {region}, at list prices of {known}, without tax and free tiers. Check the prices "
        "before you rely on them: pipeline/infrastructure/cost/prices.toml gives the source of each. Not included: "
        "traffic between zones, flow and access logs, logs of feature and training jobs.",
        highlight=False,
    )


def _by_service(bill: "Bill") -> Table:
    table = Table(box=None, pad_edge=False, show_footer=True)
    table.add_column("service", "total")
    table.add_column("standing", _usd(bill.total("standing")), justify="right")
    table.add_column("runs", _usd(bill.total("runs")), justify="right")
    table.add_column("transactions", _usd(bill.total("transactions")), justify="right")
    table.add_column("per month", _usd(bill.total()), justify="right")
    for name in bill.services():
        parts = (bill.total(when, name) for when in ("standing", "runs", "transactions"))
        table.add_row(name, *(_usd(part) if part else "" for part in parts), _usd(bill.total(service=name)))
    return table


def _alternatives(bill: "Bill") -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("alternative")
    table.add_column("instead of")
    table.add_column("costs", justify="right")
    table.add_column("ours", justify="right")
    for other in bill.alternatives():
        table.add_row(other.name, other.instead_of, _usd(other.usd), _usd(other.ours_usd))
    return table


def _usd(value: float) -> str:
    return f"{value:,.2f}"
