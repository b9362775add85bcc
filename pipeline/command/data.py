"""`fraudline synthesize`: transactions to try things with."""

from datetime import date
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from pipeline.command.stopping import stoppable
from processing.errors import BadInput


def synthesize(
    file: Annotated[Path, typer.Argument(help="Where to: .parquet, .csv or .csv.gz.")],
    start: Annotated[str, typer.Option(help="First day.")] = "2026-03-01",
    days: Annotated[int, typer.Option(min=1)] = 120,
    customers: Annotated[int, typer.Option(min=1)] = 5000,
    terminals: Annotated[int, typer.Option(min=10)] = 2000,
    seed: Annotated[int, typer.Option(min=0)] = 7,
) -> None:
    """Write synthetic transactions, in the shape of the contract `transactions`.

    Example: fraudline synthesize june.csv.gz --start 2026-06-01 --days 30
    """
    from processing.synthetic.synthesize import synthesize as make
    from processing.synthetic.synthesize import write

    first, console = _day(start), Console(stderr=True)
    with stoppable(f"{file} was not written."), console.status("synthesizing"):
        table = make(first, days, customers, terminals, seed)
        write(table, file)
    frauds = sum(table.column("is_fraud").to_pylist())
    typer.echo(f"{file}: {len(table):,} transactions, {frauds:,} of them fraudulent ({frauds / len(table):.2%})")


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise BadInput(f"--start {text}: expected a date such as 2026-03-01") from None
