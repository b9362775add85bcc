"""The `fraudline` command: what a person types. Each command says its work in words and leaves it to the modules."""

import getpass
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pipeline.registry import Latest, Registry
from processing import contract as contracts
from processing.errors import BadInput, FraudlineError
from processing.home import Home, LocalHome, open_home

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="A credit-card fraud pipeline: features, training, gate, registry and scoring, on a laptop as on AWS.",
)
models = typer.Typer(no_args_is_help=True, help="The models of a home: list, show, promote, roll back.")
app.add_typer(models, name="models")
benchmark = typer.Typer(no_args_is_help=True, help="The measured claims of the README, made again on this machine.")
app.add_typer(benchmark, name="benchmark")

HomeOption = Annotated[str, typer.Option(envvar="FRAUDLINE_HOME", help="Folder that holds all state.")]
ContractOption = Annotated[
    str | None,
    typer.Option(envvar="FRAUDLINE_CONTRACT", help="For a new home: a shipped contract's name or a .toml file."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")]
DEFAULT_HOME = "home"


def main() -> None:
    """Run the command. Errors are one message; 2 for bad input, 1 for a failed run, 130 after Ctrl-C."""
    try:
        app()
    except FraudlineError as error:
        Console(stderr=True).print(f"[red]error:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        sys.exit(error.exit_code)


@contextmanager
def stoppable(said: str) -> Iterator[None]:
    """Ctrl-C in the `with` block ends the command with what was and was not done."""
    try:
        yield
    except KeyboardInterrupt:
        Console(stderr=True).print(f"\nstopped. {said}", highlight=False)
        raise typer.Exit(130) from None


@app.command()
def demo(
    home: HomeOption = "home/demo",
    keep_serving: Annotated[bool, typer.Option(help="Leave the API up at the end, until Ctrl-C.")] = False,
    as_json: JsonOption = False,
) -> None:
    """The whole loop on synthetic data: data, features, model, API, new data, new model.

    Example: fraudline demo --keep-serving
    """
    from pipeline.demo import run_demo

    with stoppable(f"What was done until now is in {home}; start again to begin anew."):
        result = run_demo(_local(home), Console(stderr=as_json), keep_serving=keep_serving)
    if as_json:
        typer.echo(json.dumps(result, indent=2))


@app.command()
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
    from processing.synthesize import synthesize as make
    from processing.synthesize import write

    table = make(_day(start), days, customers, terminals, seed)
    write(table, file)
    frauds = sum(table.column("is_fraud").to_pylist())
    typer.echo(f"{file}: {len(table):,} transactions, {frauds:,} of them fraudulent ({frauds / len(table):.2%})")


@app.command()
def run(
    home: HomeOption = DEFAULT_HOME,
    contract: ContractOption = None,
    data: Annotated[list[Path] | None, typer.Option(help="A file to take in first; may be given again.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="A pipeline parameter, as name=value; may be given again.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """One pipeline run over what waits in incoming/.

    Example: fraudline run --contract handbook --data transactions.parquet --set MaxIterations=200
    """
    from pipeline.run import add_files, run_shown

    place = _local(home)
    known = contracts.of_home(place, contract)
    if data:
        add_files(place, data, known)
    with stoppable("The model that served still does; files not committed wait in incoming/ for the next run."):
        story = run_shown(place, Console(stderr=as_json), _pairs(settings or []))
    if as_json:
        typer.echo(json.dumps(story, indent=2))


@app.command()
def watch(home: HomeOption = DEFAULT_HOME, contract: ContractOption = None) -> None:
    """Run again whenever a file lands in incoming/, until Ctrl-C.

    Example: fraudline watch --home home
    """
    from pipeline.run import run_shown
    from triggers.watch import watch as follow

    place = _local(home)
    contracts.of_home(place, contract)
    console = Console()
    console.print(f"watching {place.path('incoming')}; Ctrl-C stops")

    def start() -> None:
        run_shown(place, console, {})

    def failed(error: FraudlineError) -> None:
        console.print(f"[red]the run failed:[/] {escape(str(error))}", highlight=False)

    with stoppable("Files that wait in incoming/ are taken in by the next run."):
        follow(place, start, failed)


@app.command()
def serve(
    home: HomeOption = DEFAULT_HOME,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 for any free one.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes that answer.")] = None,
) -> None:
    """The scoring API: the model that serves, followed as it changes, until Ctrl-C.

    Example: fraudline serve --port 8080
    """
    given = {"FRAUDLINE_HOST": host, "FRAUDLINE_PORT": port, "FRAUDLINE_WORKERS": workers}
    os.environ.update({name: str(value) for name, value in given.items() if value is not None})
    os.environ["FRAUDLINE_HOME"] = home
    os.execv(sys.executable, [sys.executable, "-m", "serving"])


@models.command("list")
def list_models(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """All versions, newest first, with what they were measured at (`models show` tells the rest).

    Example: fraudline models list
    """
    listed = Registry(_existing(home)).versions()
    if as_json:
        typer.echo(json.dumps([{**asdict(item), "created": item.created.isoformat()} for item in listed], indent=2))
        return
    table = Table("version", "status", "contract", "average precision", "recall at budget", box=None, pad_edge=False)
    table.columns[0].no_wrap = True
    for item in listed:
        precision, recall = (f"{item.metrics[name]:.3f}" for name in ("average_precision", "recall_at_budget"))
        table.add_row(item.version, item.status, item.contract, precision, recall)
    Console().print(table)


@models.command("show")
def show_model(version: str, home: HomeOption = DEFAULT_HOME) -> None:
    """A version's manifest and metrics, as JSON.

    Example: fraudline models show 20261122T103000Z-baf3f
    """
    registry = Registry(_existing(home))
    typer.echo(json.dumps({"manifest": registry.manifest(version), "metrics": registry.metrics(version)}, indent=2))


@models.command("promote")
def promote_model(
    version: str,
    home: HomeOption = DEFAULT_HOME,
    reason: Annotated[str, typer.Option(help="Why, for the record.")] = "promoted by hand",
    force: Annotated[bool, typer.Option(help="Also a version that did not pass the gate; is recorded.")] = False,
) -> None:
    """Let a version serve; the API follows within seconds.

    Example: fraudline models promote 20261122T103000Z-baf3f --reason "approved by the risk board"
    """
    _serves(Registry(_existing(home)).promote(version, by=getpass.getuser(), reason=reason, force=force))


@models.command("rollback")
def roll_back(home: HomeOption = DEFAULT_HOME) -> None:
    """Let the version serve again that did before.

    Example: fraudline models rollback
    """
    _serves(Registry(_existing(home)).rollback(by=getpass.getuser()))


@benchmark.command("scorer")
def benchmark_scorer(as_json: JsonOption = False) -> None:
    """The packed scorer beside scikit-learn: time for 1, 1,000 and 100,000 rows.

    Example: fraudline benchmark scorer --json
    """
    from pipeline.benchmark import benchmark_scorer as measured
    from pipeline.benchmark import table

    with stoppable("Nothing was measured to the end."):
        result = measured()
    typer.echo(json.dumps(result, indent=2) if as_json else table(result))


def _serves(latest: Latest) -> None:
    typer.echo(f"{latest.version} serves now ({latest.reason}); before it: {', '.join(latest.previous) or 'none'}")


def _local(address: str) -> LocalHome:
    home = open_home(address)
    if not isinstance(home, LocalHome):
        raise BadInput(f"{address}: this command works on a folder of this machine")
    return home


def _existing(address: str) -> Home:
    home = open_home(address)
    if isinstance(home, LocalHome) and not home.folder.is_dir():
        raise BadInput(f"there is no home at {home.folder}; `fraudline run --home {address}` makes one")
    return home


def _pairs(given: list[str]) -> dict[str, str]:
    for pair in given:
        if "=" not in pair:
            raise BadInput(f"--set {pair}: expected name=value, e.g. --set MaxIterations=200")
    return dict(pair.split("=", 1) for pair in given)


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise BadInput(f"--start {text}: expected a date such as 2026-03-01") from None


if __name__ == "__main__":
    main()
