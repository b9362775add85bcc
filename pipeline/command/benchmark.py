"""`fraudline benchmark`: the measured claims, made again on this machine."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from pipeline.command.options import JsonOption
from pipeline.command.stopping import stoppable

HELP = """The measured claims of the README, made again on this machine.

Example: fraudline benchmark scorer
"""

app = typer.Typer(no_args_is_help=True, help=HELP)


@app.command("scorer")
def benchmark_scorer(as_json: JsonOption = False) -> None:
    """The packed scorer beside scikit-learn: time for 1, 1,000 and 100,000 rows.

    Example: fraudline benchmark scorer --json
    """
    from pipeline.benchmarks.scorer import benchmark_scorer as measured
    from pipeline.benchmarks.scorer import table

    with stoppable("Nothing was measured to the end."), Console(stderr=True).status("measuring"):
        result = measured()
    typer.echo(json.dumps(result, indent=2) if as_json else table(result))


@app.command("serving")
def benchmark_serving(
    peers: Annotated[str, typer.Option(help="Other servers to compare with: all, none, or e.g. mlflow,spark.")] = "all",
    seconds: Annotated[float, typer.Option(min=0.2, help="How long each measurement takes.")] = 2.0,
    rounds: Annotated[int, typer.Option(min=1)] = 3,
    customers: Annotated[int, typer.Option(min=100)] = 4_000,
    as_json: JsonOption = False,
) -> None:
    """The API under load, beside plain FastAPI and other servers: requests a second, latency, processor time.

    Example: fraudline benchmark serving --peers none --json
    """
    from pipeline.benchmarks.serving.measure import benchmark_serving as measured
    from pipeline.benchmarks.serving.table import table

    console = Console(stderr=True)
    with stoppable("Nothing was measured to the end."):
        result = measured(peers=peers, seconds=seconds, rounds=rounds, customers=customers, console=console)
    typer.echo(json.dumps(result, indent=2) if as_json else table(result))


@app.command("handbook")
def benchmark_handbook(
    data: Annotated[Path, typer.Option(help="The Fraud Detection Handbook's transactions: Parquet, CSV or CSV.gz.")],
    as_json: JsonOption = False,
) -> None:
    """Detection quality by the protocol of the Fraud Detection Handbook, beside its best published figures.

    Example: fraudline benchmark handbook --data handbook.parquet --json
    """
    from pipeline.benchmarks.handbook import benchmark_handbook as measured
    from pipeline.benchmarks.handbook import table

    console = Console(stderr=True)
    with stoppable("Nothing was measured to the end."), console.status("computing features") as status:
        result = measured(data, status.update)
    typer.echo(json.dumps(result, indent=2) if as_json else table(result))
