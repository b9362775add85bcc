"""`fraudline search`: search for hyperparameters on validation weeks."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from pipeline.command.interrupt import stoppable
from pipeline.command.options import DEFAULT_HOME, HomeOption, JsonOption, existing_home, parse_pairs
from processing.contracts import reader as contracts


def search(
    address: HomeOption = DEFAULT_HOME,
    handbook: Annotated[
        Path | None,
        typer.Option(
            help="Search on this file of the handbook's transactions and its validation folds, not on a home."
        ),
    ] = None,
    values: Annotated[
        list[str] | None,
        typer.Option("--try", help="Values to try, as name=value,value; repeatable. Default: a small built-in grid."),
    ] = None,
    trials: Annotated[int, typer.Option(min=1, help="Number of combinations to try besides the defaults.")] = 12,
    folds: Annotated[int, typer.Option(min=1, help="Number of validation weeks.")] = 4,
    seed: Annotated[int, typer.Option(min=0, help="Random seed that draws the combinations.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Search for hyperparameters on the validation weeks before the test week.

    The last line of the output is the command that uses the best combination.

    Example: fraudline search --try MaxLeafNodes=8,16 --try L2Regularization=1,10,100
    """
    from pipeline.benchmarks.handbook import CARD, validation_folds, validation_rows
    from pipeline.training import search as searching

    choices = {name: text.split(",") for name, text in parse_pairs(values or [], "--try", "MaxLeafNodes=8,16").items()}
    combinations = searching.combinations(choices, trials, seed)
    console = Console(stderr=True)
    with stoppable("Search cancelled."), _progress(console) as progress:
        bar = progress.add_task("reading features", total=None)
        if handbook:
            contract, card = contracts.load("handbook"), CARD
            rows, weeks = validation_rows(handbook), list(validation_folds())[-folds:]
        else:
            home, card = existing_home(address), None
            contract = contracts.of_home(home)
            rows, weeks = searching.validation_weeks(home, contract, folds)
        best = 0.0

        def report(trial: searching.Trial) -> None:
            nonlocal best
            best = max(best, trial.mean)
            progress.update(bar, advance=1, description=f"best average precision so far: {best:.4f}")

        progress.update(bar, total=len(combinations), description="fitting")
        results = searching.search(rows, weeks, contract, combinations, card=card, progress=report)
    if as_json:
        typer.echo(json.dumps(searching.search_document(results, weeks), indent=2))
    else:
        typer.echo(searching.search_table(results))


def _progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
