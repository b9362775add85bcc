"""`fraudline parity`: what the API computed, compared with what the feature job computes for the same transactions."""

import json
from typing import Annotated, Any

import typer
from rich.console import Console

from pipeline.command.options import DEFAULT_HOME, HomeOption, JsonOption, existing_home
from processing.errors import RunFailed

MOST_SHOWN = 10  # features


def parity(
    address: HomeOption = DEFAULT_HOME,
    since: Annotated[
        str | None, typer.Option(help="Compare only decisions made at that time or later. Default: the latest 50,000.")
    ] = None,
    fail_above: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="Exit with 1 if a greater share of the decisions differs.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Compare the features that the API recorded with those that the feature job computes for the same transactions.

    Example: fraudline parity --since 2026-07-01 --fail-above 0
    """
    from pipeline.evaluation.drift import parse_since
    from pipeline.evaluation.parity import measure_parity

    comparison = measure_parity(existing_home(address), parse_since(since))
    if as_json:
        typer.echo(json.dumps(comparison, indent=2))
    else:
        _print_comparison(comparison)
    compared, different = comparison["compared"], comparison["different"]
    if fail_above is not None and different > fail_above * compared:
        raise RunFailed(f"the features of {different:,} of {compared:,} decisions differ from those of the feature job")


def _print_comparison(comparison: dict[str, Any]) -> None:
    console = Console()
    compared, different = comparison["compared"], comparison["different"]
    console.print(f"{different:,} of {compared:,} decisions differ from the feature job in a feature", highlight=False)
    for name, count in list(comparison["features"].items())[:MOST_SHOWN]:
        console.print(f"  {name}: {count:,}", highlight=False)
    if (more := len(comparison["features"]) - MOST_SHOWN) > 0:
        console.print(f"  and {more} more features", highlight=False)
    left_out = {
        "not_in_tables": "not in the tables yet",
        "displaced": "the tables have another transaction under the id",
        "other_features": "by models with other features",
    }
    for key, why in left_out.items():
        if comparison[key]:
            console.print(f"{comparison[key]:,} not compared: {why}", highlight=False, style="dim")
