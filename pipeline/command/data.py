"""`fraudline synthesize`: synthetic transactions to try things out with."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from pipeline.command.interrupt import stoppable
from pipeline.command.options import StartOption, parse_day


def synthesize(
    file: Annotated[Path, typer.Argument(help="File to write: .parquet, .csv or .csv.gz.")],
    start: StartOption = "2026-03-01",
    days: Annotated[int, typer.Option(min=1, help="Number of days.")] = 120,
    customers: Annotated[int, typer.Option(min=1, help="Number of customers.")] = 5000,
    terminals: Annotated[int, typer.Option(min=10, help="Number of terminals.")] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="Random seed; the same seed gives the same transactions.")] = 7,
) -> None:
    """Write synthetic transactions to a file, as the contract `transactions` describes them.

    Example: fraudline synthesize june.csv.gz --start 2026-06-01 --days 30
    """
    from processing.synthetic import synthesize as synthetic

    first, console = parse_day(start), Console(stderr=True)
    with stoppable(f"{file} was not written."), console.status("synthesizing"):
        table = synthetic.synthesize(first, days, customers, terminals, seed)
        synthetic.write(table, file)
    frauds = sum(table.column("is_fraud").to_pylist())
    typer.echo(f"{file}: {len(table):,} transactions, {frauds:,} fraudulent ({frauds / len(table):.2%})")
