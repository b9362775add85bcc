"""`fraudline benchmark`: measure the README's claims on this machine."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from pipeline.command.interrupt import stoppable
from pipeline.command.options import JsonOption, StartOption, parse_day

HELP = """Measure the README's claims on this machine.

Example: fraudline benchmark scorer
"""
CANCELLED = "Benchmark cancelled; there are no results."

app = typer.Typer(no_args_is_help=True, help=HELP)


@app.command("scorer")
def scorer(as_json: JsonOption = False) -> None:
    """Compare the packed scorer with scikit-learn: time to score a single row and larger batches.

    Example: fraudline benchmark scorer --json
    """
    from pipeline.benchmarks.scorer import benchmark_scorer, scorer_table

    with stoppable(CANCELLED), Console(stderr=True).status("measuring"):
        result = benchmark_scorer()
    typer.echo(json.dumps(result, indent=2) if as_json else scorer_table(result))


@app.command("serving")
def serving(
    peers: Annotated[str, typer.Option(help="Other servers to compare with: all, none, or e.g. mlflow,spark.")] = "all",
    seconds: Annotated[float, typer.Option(min=0.2, help="Duration of each measurement.")] = 2.0,
    rounds: Annotated[int, typer.Option(min=1, help="Number of rounds.")] = 3,
    customers: Annotated[int, typer.Option(min=100, help="Number of synthetic customers.")] = 4_000,
    as_json: JsonOption = False,
) -> None:
    """Put the API under load and compare it with other servers: requests per second, latency, CPU time.

    Example: fraudline benchmark serving --peers none --json
    """
    from pipeline.benchmarks.serving.measure import benchmark_serving
    from pipeline.benchmarks.serving.results_table import serving_table

    console = Console(stderr=True)
    with stoppable(CANCELLED):
        result = benchmark_serving(peers=peers, seconds=seconds, rounds=rounds, customers=customers, console=console)
    typer.echo(json.dumps(result, indent=2) if as_json else serving_table(result))


@app.command("handbook")
def handbook(
    data: Annotated[Path, typer.Option(help="The Fraud Detection Handbook's transactions: .parquet, .csv or .csv.gz.")],
    as_json: JsonOption = False,
) -> None:
    """Measure detection quality by the Fraud Detection Handbook's protocol; compare with its best published figures.

    Example: fraudline benchmark handbook --data handbook.parquet --json
    """
    from pipeline.benchmarks.handbook import benchmark_handbook, handbook_table

    console = Console(stderr=True)
    with stoppable(CANCELLED), console.status("computing features") as status:
        result = benchmark_handbook(data, status.update)
    typer.echo(json.dumps(result, indent=2) if as_json else handbook_table(result))


@app.command("synthetic")
def synthetic(
    contract: Annotated[
        list[str] | None,
        typer.Option(help="Contract to measure: a shipped one's name or a .toml file; repeatable, to compare several."),
    ] = None,
    start: StartOption = "2026-03-01",
    days: Annotated[int, typer.Option(min=1, help="Number of days.")] = 120,
    customers: Annotated[int, typer.Option(min=1, help="Number of synthetic customers.")] = 10_000,
    terminals: Annotated[int, typer.Option(min=10, help="Number of terminals.")] = 3_000,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the transactions.")] = 23,
    folds: Annotated[int, typer.Option(min=1, help="Number of test weeks.")] = 4,
    validation: Annotated[
        bool, typer.Option("--validation", help="Test on the weeks just before the test weeks, to choose on them.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Measure detection quality on synthetic transactions, in all and by fraud pattern; compare contracts.

    Example: fraudline benchmark synthetic --contract transactions --contract mine.toml --validation
    """
    from pipeline.benchmarks.synthetic import Season, benchmark_synthetic, synthetic_table
    from processing.contracts import reader as contracts

    season, console = Season(parse_day(start), days, customers, terminals, seed), Console(stderr=True)
    named = {name: contracts.load(name) for name in contract or ["transactions"]}
    with stoppable(CANCELLED), console.status("starting") as status:
        result = benchmark_synthetic(named, season, weeks=folds, validation=validation, progress=status.update)
    typer.echo(json.dumps(result, indent=2) if as_json else synthetic_table(result))
