"""`fraudline search`: hyperparameters on validation weeks."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from pipeline.command.options import DEFAULT_HOME, HomeOption, JsonOption, existing_home, pairs
from pipeline.command.stopping import stoppable
from processing.contracts import reader as contracts


def search(
    home: HomeOption = DEFAULT_HOME,
    handbook: Annotated[
        Path | None, typer.Option(help="Instead: the handbook's transactions, on its validation folds.")
    ] = None,
    values: Annotated[
        list[str] | None,
        typer.Option("--try", help="Values to try, as name=value,value; may be given again. Default: a grid of all."),
    ] = None,
    trials: Annotated[int, typer.Option(min=1, help="How many combinations to try besides the defaults.")] = 12,
    folds: Annotated[int, typer.Option(min=1, help="How many weeks to be judged on.")] = 4,
    seed: Annotated[int, typer.Option(min=0, help="Which combinations are drawn.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Try hyperparameters on validation weeks before the test week; ends with the line to use the best.

    Example: fraudline search --try MaxLeafNodes=8,16 --try L2Regularization=1,10,100
    """
    from pipeline.benchmarks.handbook import CARD, validation_folds, validation_rows
    from pipeline.training import search as searching

    given = {name: text.split(",") for name, text in pairs(values or [], "--try", "MaxLeafNodes=8,16").items()}
    tried = searching.combinations(given, trials, seed)
    console = Console(stderr=True)
    with stoppable("Nothing was searched to the end."), _progress(console) as progress:
        bar = progress.add_task("reading features", total=None)
        if handbook:
            contract, card = contracts.load("handbook"), CARD
            rows, weeks = validation_rows(handbook), list(validation_folds())[-folds:]
        else:
            place, card = existing_home(home), None
            contract = contracts.of_home(place)
            rows, weeks = searching.of_home(place, contract, folds)
        done: list[searching.Trial] = []

        def tell(trial: searching.Trial) -> None:
            done.append(trial)
            best = max(done, key=lambda trial: trial.mean)
            progress.update(bar, advance=1, description=f"the best average precision {best.mean:.4f}")

        progress.update(bar, total=len(tried), description="fitting")
        found = searching.search(rows, weeks, contract, tried, card=card, progress=tell)
    if as_json:
        typer.echo(json.dumps(searching.as_document(found, weeks), indent=2))
    else:
        typer.echo(searching.table(found))


def _progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
